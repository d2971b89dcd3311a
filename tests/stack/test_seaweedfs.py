"""The configuration of the embedded S3."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from ims.settings import Settings
from ims.stack import seaweedfs
from ims.stack.credentials import ensure_credentials


def configured(home: Path, host: str = "127.0.0.9") -> Settings:
    """An installation whose S3 is configured."""
    own = Settings(home=home, host=host, s3_endpoint_url=None)
    seaweedfs.configure(own, ensure_credentials(own))
    return own


def test_every_component_requires_the_certificate(tmp_path: Path) -> None:
    """HTTP and gRPC of all components use TLS with certificates on both sides; tokens protect the rest."""
    own = configured(tmp_path)
    security = tomllib.loads((seaweedfs.folder(own) / "security.toml").read_text())
    for name in ("master", "volume", "filer", "admin"):
        assert set(security["https"][name]) == {"cert", "key", "ca"}, name
    for name in ("master", "volume", "filer", "admin", "s3", "client"):
        assert set(security["grpc"][name]) == {"cert", "key"}, name
    assert security["https"]["client"]["enabled"] is True
    files = {security["grpc"]["ca"], *security["grpc"]["master"].values()}
    assert {Path(file).parent for file in files} == {own.secrets}
    assert security["jwt"]["filer_signing"]["read"]["key"]


def test_configuration_is_private(tmp_path: Path) -> None:
    """Only the owner reads the keys."""
    own = configured(tmp_path)
    files = [*seaweedfs.folder(own).iterdir(), *own.secrets.iterdir()]
    assert len(files) > 5
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert seaweedfs.folder(own).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("host", "is_new"), [("127.0.0.9", False), ("127.0.0.8", True), ("s3.example", True)])
def test_certificate_is_kept_while_it_fits(tmp_path: Path, host: str, is_new: bool) -> None:
    """It is made at the first start, and again if the address changes. Nobody keeps the key of its CA."""
    first = (configured(tmp_path).secrets / "s3-cert.pem").read_bytes()
    own = configured(tmp_path, host)
    assert ((own.secrets / "s3-cert.pem").read_bytes() != first) is is_new
    assert {file.name for file in own.secrets.glob("s3-*")} == {"s3-ca.pem", "s3-cert.pem", "s3-key.pem"}
