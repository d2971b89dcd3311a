"""`PUT /apis/sts/token`: temporary S3 credentials, used against the real store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ims.stack.environment import s3_environment
from tests.api.conftest import client, mint
from tests.api.records import put
from tests.api.wire import JSON, assert_problem
from tests.service import Service

TOKEN = "/apis/sts/token"
BUCKETS = ("ims", "boot-images")


def given(http: httpx.Client) -> dict[str, str]:
    """Returns credentials for the user of a client."""
    answer = http.put(TOKEN)
    assert answer.status_code == 201, answer.text
    assert set(answer.json()) == {"Credentials"}
    return dict(answer.json()["Credentials"])


def connected(credentials: dict[str, str], name: str = "s3") -> Any:
    """Returns an S3 client as `cray artifacts` creates it."""
    clients: Any = boto3
    return clients.client(
        name,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
        endpoint_url=credentials["EndpointURL"],
        region_name="us-east-1",
        config=Config(request_checksum_calculation="when_required"),
    )


def refused(call: Callable[[], Any]) -> bool:
    """Returns whether the store refuses a call."""
    try:
        call()
    except ClientError:
        return True
    return False


def test_answer(api: httpx.Client, service: Service) -> None:
    """Credentials have the members that clients of IMS read, expire, and differ from those of the service."""
    credentials = given(api)
    assert set(credentials) == {"AccessKeyId", "SecretAccessKey", "SessionToken", "EndpointURL", "Expiration"}
    left = datetime.fromisoformat(credentials["Expiration"]) - datetime.now(UTC)
    assert timedelta(minutes=50) < left <= timedelta(hours=1)
    assert credentials["EndpointURL"] == service.settings.endpoint_url
    environment = s3_environment(service.settings, service.credentials)
    own = {environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]}
    assert not own & {credentials["AccessKeyId"], credentials["SecretAccessKey"]}
    assert not any(secret in credentials["SessionToken"] for secret in own)


# What a role may do in the two buckets: read, write, delete.
RIGHTS = {"viewer": (True, False, False), "user": (True, True, True), "admin": (True, True, True)}


@pytest.mark.parametrize("bucket", BUCKETS)
@pytest.mark.parametrize("role", RIGHTS)
def test_rights(service: Service, role: str, bucket: str) -> None:
    """Credentials have the permissions of the caller on objects, and none on buckets."""
    put(service, f"s3://{bucket}/sts/object")
    with client(service, mint(service, role)) as http:
        store = connected(given(http))
    key = {"Bucket": bucket, "Key": "sts/object"}
    may_read, may_write, may_delete = RIGHTS[role]
    assert refused(lambda: store.get_object(**key)["Body"].read()) is not may_read
    assert refused(lambda: store.list_objects_v2(Bucket=bucket)) is not may_read
    assert refused(lambda: store.put_object(**key, Body=b"new", ACL="public-read")) is not may_write
    assert refused(lambda: store.delete_object(**key)) is not may_delete
    assert {item["Name"] for item in store.list_buckets()["Buckets"]} == set(BUCKETS)
    for call in (
        lambda: store.delete_bucket(Bucket=bucket),
        lambda: store.create_bucket(Bucket="another"),
        lambda: store.put_bucket_policy(Bucket=bucket, Policy="{}"),
        lambda: store.put_bucket_acl(Bucket=bucket, ACL="public-read"),
    ):
        assert refused(call)


def test_no_more_rights_from_them(service: Service) -> None:
    """Credentials for reading cannot be exchanged for others."""
    with client(service, mint(service, "viewer")) as http:
        credentials = given(http)
    service_of_tokens, users = connected(credentials, "sts"), connected(credentials, "iam")
    role = service.settings.sts_role_arn
    assert refused(lambda: service_of_tokens.assume_role(RoleArn=role, RoleSessionName="eve"))
    assert refused(lambda: service_of_tokens.get_federation_token(Name="eve"))
    assert refused(lambda: users.create_user(UserName="eve"))


def test_without_the_session_token(api: httpx.Client) -> None:
    """Key and secret are useless without the session token."""
    store = connected({**given(api), "SessionToken": ""})
    with pytest.raises(ClientError):
        store.list_objects_v2(Bucket="ims")


def test_stranger(nobody: httpx.Client) -> None:
    """Without a token, the answer is 401 with a problem, whatever the body is."""
    assert_problem(nobody.put(TOKEN), 401)
    assert_problem(nobody.put(TOKEN, content=b"{", headers=JSON), 401)


def test_no_such(api: httpx.Client) -> None:
    """Errors are problems, as in the rest of the API."""
    assert_problem(api.get(TOKEN), 405)
    assert_problem(api.get("/apis/sts/tokens"), 404)
    assert_problem(api.put(TOKEN, params={"seconds": 10**9}), 400)
