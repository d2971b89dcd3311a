"""Checks of the object store: what the service may do in it, and what its steps may do."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from uuid import uuid4

import httpx

from ims.doctor.finding import Finding, missing, ok, warning
from ims.errors import ConfigurationError, ImsError
from ims.settings import Settings
from ims.stack import seaweedfs
from ims.stack.environment import object_store, service_keys
from ims.stack.starting import restart_command, start_command
from ims.storage.objects import ObjectName, ObjectStore
from ims.storage.sessions import session_credentials, token_client, writing

UNKNOWN = warning("not checked: S3 does not answer", "")
ATTEMPTS = 2
ALTER_EVERY = 10
"""At each so many characters, a session token is altered."""
SECONDS = 10
CLOCK_WARNING, CLOCK_LIMIT = 10, 300
"""Seconds by which clocks may differ. S3 refuses requests that are 15 minutes old."""


def reachable(settings: Settings) -> Finding:
    """Whether S3 answers."""
    answer = _answer(settings)
    return ok(settings.endpoint_url) if answer is not None else _silent(settings)


def rights(settings: Settings) -> Finding:
    """Whether the service may write, read and delete objects in both buckets."""
    if _answer(settings) is None:
        return UNKNOWN
    store = _store(settings)
    for bucket in settings.buckets:
        name = ObjectName(bucket, f".doctor/{uuid4()}")
        store.write_bytes(name, b"doctor")
        store.read_bytes(name, limit=100)
        store.delete(name)
    return ok(f"read, write and delete in {' and '.join(settings.buckets)}")


def rights_of_steps(settings: Settings) -> Finding:
    """Whether steps get credentials for only what they need, and whether S3 enforces the limits."""
    role = settings.step_role_arn
    if not role:
        return warning(
            "steps use the credentials of the service", "Set IMS_STS_ROLE to a role that the service may assume"
        )
    if _answer(settings) is None:
        return UNKNOWN
    folder = ObjectName(settings.images_bucket, f".doctor/{uuid4()}")
    key, secret, token = _session(settings, folder)
    step = ObjectStore.connect(settings.endpoint_url, key, secret, token, attempts=ATTEMPTS)
    return _try_rights(_store(settings), step, folder)


def session_tokens(settings: Settings) -> Finding:
    """Whether S3 notices that somebody altered a session token. Ceph drops the limits of a session it cannot read."""
    if not settings.step_role_arn:
        return ok("not used")
    if _answer(settings) is None:
        return UNKNOWN
    service, folder = _store(settings), ObjectName(settings.images_bucket, f".doctor/{uuid4()}")
    key, secret, token = _session(settings, ObjectName(folder.bucket, f"{folder.key}/own"))
    other = ObjectName(folder.bucket, f"{folder.key}/other")
    service.write_bytes(other, b"doctor")
    try:
        tokens = (altered(token, place) for place in range(0, len(token), ALTER_EVERY))
        stores = (ObjectStore.connect(settings.endpoint_url, key, secret, text, attempts=1) for text in tokens)
        is_fooled = any(_may_read(store, other) for store in stores)
    finally:
        service.delete(other)
    if not is_fooled:
        return ok("altered ones are refused")
    limits = "IMS_STS_ROLE may have rights only in the two buckets"
    if settings.sts_read_role_arn:
        return warning("whoever has one can remove its limits, but not those of the role", limits)
    return warning("whoever has one can remove its limits", f"Set IMS_STS_READ_ROLE; {limits}")


def altered(token: str, place: int) -> str:
    """The token with one character replaced."""
    return token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]


def _may_read(store: ObjectStore, name: ObjectName) -> bool:
    try:
        return bool(store.read_bytes(name, limit=100))
    except ImsError:
        return False


def _session(settings: Settings, folder: ObjectName) -> tuple[str, str, str]:
    """Temporary credentials that may write below a folder: access key, secret key and token."""
    keys = service_keys(settings)
    tokens = token_client(settings.endpoint_url, keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
    given = session_credentials(settings.step_role_arn, "doctor", 900, [writing(folder.bucket, folder.key)], tokens)
    return given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]


def _try_rights(service: ObjectStore, step: ObjectStore, folder: ObjectName) -> Finding:
    own, other = (ObjectName(folder.bucket, f"{key}/object") for key in (folder.key, f"{folder.key}-other"))
    service.write_bytes(other, b"doctor")
    try:
        step.write_bytes(own, b"doctor")
        step.read_bytes(other, limit=100)
    except ConfigurationError as error:
        if str(own) in error.reason:
            return missing(f"a step cannot write its own objects: {error.reason}", "Correct the policy of the role")
        return ok("only the objects of their job, for a limited time")
    finally:
        for name in (own, other):
            service.delete(name)
    return missing("S3 ignores the policy of temporary credentials", "Set IMS_STS=false, or use another S3 service")


def internal_ports(settings: Settings) -> Finding:
    """Whether the internal ports of the embedded S3 require a certificate."""
    if settings.s3_endpoint_url is not None:
        return ok("not embedded")
    try:
        answer = httpx.get(f"http://{settings.host}:{settings.s3_internal_port}/dir/status", timeout=SECONDS)
    except httpx.HTTPError:
        return UNKNOWN
    if answer.text == seaweedfs.EXPECTS_TLS:
        return ok("closed")
    return missing("open for every program of this machine", f"Restart the service: {restart_command()}")


def clock(settings: Settings) -> Finding:
    """Whether the clock of this machine agrees with that of S3."""
    answer = _answer(settings)
    if answer is None or "Date" not in answer.headers:
        return UNKNOWN
    seconds = round(abs((datetime.now(UTC) - parsedate_to_datetime(answer.headers["Date"])).total_seconds()))
    value = f"{seconds} s from that of S3"
    if seconds > CLOCK_LIMIT:
        return missing(value, "Synchronize the clock: S3 refuses requests whose time is wrong")
    return warning(value, "Synchronize the clock") if seconds > CLOCK_WARNING else ok(value)


def _silent(settings: Settings) -> Finding:
    if settings.s3_endpoint_url is None:
        problem = f"the embedded S3 does not answer at {settings.endpoint_url}"
        return warning(problem, f"Start the service: {start_command()}")
    return missing(f"nothing answers at {settings.endpoint_url}", "Check IMS_S3_ENDPOINT_URL and AWS_CA_BUNDLE")


def _answer(settings: Settings) -> httpx.Response | None:
    """The answer of S3 to a request without credentials; None if there is none."""
    try:
        trusted = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))
        return httpx.get(settings.endpoint_url, timeout=SECONDS, verify=trusted)
    except (httpx.HTTPError, OSError):
        return None


def _store(settings: Settings) -> ObjectStore:
    return object_store(settings, ATTEMPTS)
