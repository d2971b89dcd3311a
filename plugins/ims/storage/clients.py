"""How the clients of S3 are configured."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botocore.config import Config


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
