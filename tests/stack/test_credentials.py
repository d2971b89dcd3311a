"""The secrets that an installation generates for itself."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from ims.files import write_private
from ims.settings import Settings
from ims.stack.credentials import Credentials, ensure_ca, ensure_credentials, find_credentials, write_password_file


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """An installation that was never started."""
    return Settings(home=tmp_path / "home", ca_certificate=None)


def mode(path: Path) -> int:
    """The permissions of a file."""
    return path.stat().st_mode & 0o777


def test_only_the_owner_can_read_secrets(own: Settings) -> None:
    """Files have mode 0600, their folder has mode 0700."""
    write_password_file(own, ensure_credentials(own))
    ensure_ca(own)
    assert mode(own.secrets) == 0o700
    files = {path.name: mode(path) for path in own.secrets.iterdir()}
    assert files == dict.fromkeys(("credentials.json", "gateway-password", "passwords.json", "site-root-ca.key"), 0o600)


def test_credentials_survive_a_restart(own: Settings) -> None:
    """The data survive it, and are useless without them."""
    first = ensure_credentials(own)
    assert ensure_credentials(own) == first
    assert ensure_credentials(Settings(home=own.home)) == first


def test_all_are_random_and_long_enough() -> None:
    """No two are equal, within an installation or between two."""
    one, other = Credentials.generate().model_dump(), Credentials.generate().model_dump()
    assert len({*one.values(), *other.values()}) == 2 * len(one)
    assert min(map(len, one.values())) >= 16
    assert len(one["jwt_secret"]) >= 64


def test_passwords_are_those_of_the_users(own: Settings) -> None:
    """The file has the format of Airflow's simple auth manager."""
    credentials = ensure_credentials(own)
    users = json.loads(write_password_file(own, credentials).read_text())
    assert users == {
        "admin": credentials.admin_password,
        "ims-tasks": credentials.task_password,
        "ims-gateway": credentials.gateway_password,
    }
    assert own.gateway_password.read_text() == credentials.gateway_password


def test_new_password_after_an_upgrade(own: Settings) -> None:
    """An installation of an earlier version gets what it lacks, and keeps the rest."""
    first = ensure_credentials(own)
    path = own.secrets / "credentials.json"
    path.write_text(json.dumps({name: value for name, value in first.model_dump().items() if "gateway" not in name}))
    assert find_credentials(own) == first.model_copy(update={"gateway_password": ""})
    second = ensure_credentials(own)
    assert second == first.model_copy(update={"gateway_password": second.gateway_password})
    assert len(second.gateway_password) >= 16
    assert ensure_credentials(own) == find_credentials(own) == second


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_private_file_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """It replaces a readable file of the same name."""
    path = tmp_path / "secret"
    path.touch(mode=0o666)
    before = os.umask(umask)
    try:
        write_private(path, "text")
    finally:
        os.umask(before)
    assert (path.read_text(), mode(path)) == ("text", 0o600)
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


@pytest.mark.system
def test_ca_can_sign_for_servers(own: Settings, tmp_path: Path) -> None:
    """OpenSSL trusts its certificates even with the strict checks that Python 3.13 enables."""
    ensure_credentials(own)
    ensure_ca(own)
    ca, server = str(own.ca_certificate_path), str(tmp_path / "server.pem")
    sign: list[str | Path] = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-keyout", tmp_path / "server.key", "-out", server, "-CA", ca, "-CAkey", own.secrets / "site-root-ca.key"),
        *("-subj", "/CN=nexus", "-addext", "subjectAltName=DNS:nexus", "-addext", "basicConstraints=CA:FALSE"),
    ]
    subprocess.run(sign, capture_output=True, check=True)
    verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ca, server]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_ca_can_only_sign(own: Settings) -> None:
    """It is not valid as the certificate of a server."""
    ensure_credentials(own)
    ensure_ca(own)
    certificate = x509.load_pem_x509_certificate(own.ca_certificate_path.read_bytes())
    certificate.verify_directly_issued_by(certificate)
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)


def test_ca_survives_a_restart(own: Settings) -> None:
    """Earlier images trust it."""
    ensure_credentials(own)
    ensure_ca(own)
    before = own.ca_certificate_path.read_bytes()
    ensure_ca(own)
    assert own.ca_certificate_path.read_bytes() == before


def test_no_ca_is_created_if_the_site_has_one(own: Settings) -> None:
    """The configured one stays as it is."""
    ensure_credentials(own)
    ensure_ca(Settings(home=own.home, ca_certificate=Path("/etc/site.pem")))
    assert not (own.home / "site-root-ca.pem").exists()
