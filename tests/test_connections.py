"""The services that tasks use, from Airflow's connections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ims.connections import object_store, token_service
from ims.errors import ConfigurationError


def connect(monkeypatch: pytest.MonkeyPatch, **fields: str) -> None:
    """Set the connection to S3."""
    extra = {"endpoint_url": "http://192.0.2.1:8333", "region_name": "us-east-1", "verify": "/etc/ca.pem"}
    monkeypatch.setenv("AIRFLOW_CONN_IMS_S3", json.dumps({"conn_type": "aws", "extra": extra, **fields}))


def test_clients_use_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Address, region and keys are those of the connection, not those in the variables AWS_*."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    connect(monkeypatch, login="key", password="secret")
    s3: Any = object_store().client
    assert s3.meta.endpoint_url == token_service().meta.endpoint_url == "http://192.0.2.1:8333"
    assert "X-Amz-Credential=key%2F" in s3.generate_presigned_url("list_buckets")
    assert s3.meta.config.s3["addressing_style"] == "path"


def test_connection_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the connection."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    connect(monkeypatch)
    with pytest.raises(ConfigurationError, match="ims_s3 has no credentials"):
        object_store()


@pytest.mark.system
def test_credentials_that_expire(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The client asks for new ones when they expire, which may be before the task ends."""
    answer = {"Version": 1, "AccessKeyId": "key", "SecretAccessKey": "secret", "Expiration": "2099-01-01T00:00:00Z"}
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    (tmp_path / "config").write_text(f"[default]\ncredential_process = /bin/cat {tmp_path}/answer.json\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    connect(monkeypatch)
    clients: list[Any] = [object_store().client, token_service()]
    for service in clients:
        assert hasattr(service._request_signer._credentials, "refresh_needed")
