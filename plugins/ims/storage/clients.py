"""Clients of S3 and how they are configured."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.config import Config
    from botocore.credentials import ReadOnlyCredentials

REGION = "us-east-1"
"""The region if a connection names none."""


def client_config(endpoint_url: str, *, attempts: int = 12) -> Config:
    """The configuration of a client. Twelve attempts outlast an outage of about a minute."""
    from botocore.config import Config

    return Config(
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=5,
        read_timeout=60,
        s3={
            "addressing_style": "path",
            # TLS protects the content already, and signing it means to hash every byte once more.
            "payload_signing_enabled": not endpoint_url.startswith("https:"),
        },
    )


def client(
    service: str,
    url: str | None,
    keys: ReadOnlyCredentials,
    config: Config,
    *,
    region: str | None = None,
    verify: bool | str | None = None,
) -> Any:
    """A client of the service `s3` or `sts` at `url`. All clients of a process share what botocore parses for them."""
    return _session().client(
        service,
        endpoint_url=url,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        aws_session_token=keys.token,
        region_name=region or REGION,
        config=config,
        verify=verify,
    )


def preload() -> None:
    """Parse the descriptions of both services now, for the processes that are forked from this one."""
    from botocore.credentials import ReadOnlyCredentials

    for service in ("s3", "sts"):
        client(service, None, ReadOnlyCredentials("none", "none", None), client_config(""))


@cache
def _session() -> Any:
    import boto3

    return boto3.session.Session(region_name=REGION)
