"""Checks of the installation: its home, its disk, its CA and its API."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
from cryptography import x509

from ims.client import ImsClient
from ims.doctor.finding import Finding, missing, ok, warning
from ims.errors import UnavailableError
from ims.sandbox.disk import available, existing, shortage
from ims.settings import Settings
from ims.stack.credentials import find_credentials
from ims.stack.starting import see_logs, start_command

GIB = 1024**3
CA_WARNING_DAYS = 90
API_SECONDS = 10
NAMED = 3
"""How many damaged images a finding names."""
TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108


def home(settings: Settings) -> Finding:
    """Whether the state is safe where it is, and builds are the same as elsewhere.

    kiwi makes the path of the package cache in the image root, before a package sets the modes of these folders.
    """
    for folder in TEMPORARY:
        if settings.home.resolve().is_relative_to(folder):
            problem = f"{settings.home} is below {folder}: systems remove old files there, and images get another mode"
            return warning(f"{problem} of {folder}", "Set IMS_HOME to another folder")
    return ok(str(settings.home))


def disk(settings: Settings) -> Finding:
    """Whether there is space for a job, beside what jobs leave free, and whether new jobs wait for more."""
    if (waits := shortage(settings.disks)) is not None:
        return missing(waits, "Free some space: ims maintenance")
    folder = existing(settings.workspaces)
    free = available(folder) / GIB
    value = f"{free:.1f} GiB free for jobs in {folder}"
    if free < settings.build_env_size:
        return missing(f"{value}, a job needs {settings.build_env_size}", "Free some space: ims maintenance")
    if free < settings.build_env_size * settings.parallelism:
        return warning(f"{value}: too little for {settings.parallelism} jobs at once", "Free some space")
    return ok(value)


def ca_certificate(settings: Settings) -> Finding:
    """Whether the root CA certificate of the site can be used, and for how long."""
    path = settings.ca_certificate_path
    if not path.exists():
        if settings.ca_certificate is None:
            return warning("there is none yet", "The service creates one when it starts")
        return missing(f"{path} does not exist", "Correct IMS_CA_CERTIFICATE")
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        return missing(f"{path} is no certificate: {error}", "IMS_CA_CERTIFICATE must name a file in the PEM format")
    return validity(certificate, datetime.now(UTC))


def images(settings: Settings) -> Finding:
    """Whether maintenance found images with missing or damaged objects."""
    credentials = find_credentials(settings)
    if credentials is None:
        return ok("none yet")
    try:
        client = ImsClient.login(settings.airflow_url, settings.admin_user, credentials.admin_password)
        found = client.get("images", damaged=True)
    except UnavailableError:
        return warning("not checked: the API does not answer", f"Start the service: {start_command()}")
    if not found:
        return ok("none is known to be damaged")
    names = ", ".join(f"{image['name']} ({image['id']})" for image in found[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    hint = "Build them again, or restore their objects in S3; ims images list --damaged -o yaml shows which"
    return missing(f"objects are missing or damaged: {names}{more}", hint)


def validity(certificate: x509.Certificate, now: datetime) -> Finding:
    """Whether a CA certificate is valid, and stays so for a while."""
    end = certificate.not_valid_after_utc
    renew = "Create a new one, and build images again: they trust the one that they contain"
    if now < certificate.not_valid_before_utc:
        return missing(f"not valid before {certificate.not_valid_before_utc:%Y-%m-%d}", "Is the clock right?")
    if now > end:
        return missing(f"expired on {end:%Y-%m-%d}", renew)
    if (end - now).days < CA_WARNING_DAYS:
        return warning(f"expires on {end:%Y-%m-%d}", renew)
    return ok(f"valid until {end:%Y-%m-%d}")


def api(settings: Settings) -> Finding:
    """Whether the API of this machine answers."""
    url = f"{settings.airflow_url}/apis/ims/healthz/ready"
    try:
        answer = httpx.get(url, timeout=API_SECONDS)
    except httpx.HTTPError:
        return warning(f"nothing answers at {settings.airflow_url}", f"Start the service: {start_command()}")
    if answer.status_code != httpx.codes.OK:
        return missing(f"{url} answers {answer.status_code}", see_logs(settings))
    return ok(settings.airflow_url)
