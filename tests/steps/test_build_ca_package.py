"""The package with the site's CA certificate, built with the real rpmbuild and dpkg-deb."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError

from ims.builder import inputs
from ims.errors import ConfigurationError
from ims.settings import Settings, settings
from ims.steps.build_ca_package import Input, run
from tests.flows.rpm_repository import PrivateCA

pytestmark = pytest.mark.system

MANAGERS = ("zypper", "apt")
RPM_FILES = ("/etc/pki/ca-trust/source/anchors/site-root-ca.crt", "/usr/share/pki/trust/anchors/site-root-ca.crt")
DEB_FILE = "/usr/local/share/ca-certificates/site-root-ca.crt"


@pytest.fixture
def use_certificate(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Lets a test set IMS_CA_CERTIFICATE to another certificate."""
    yield monkeypatch
    monkeypatch.undo()
    settings.cache_clear()


def build(workspace: Path, manager: str, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Build the package for a package manager; returns its path."""
    monkeypatch.setenv("IMS_CA_CERTIFICATE", str(certificate))
    settings.cache_clear()
    return Path(run(Input(workspace=workspace, package_manager=manager)))


def output(*command: str | Path) -> str:
    """The output of a program."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def unpack(package: Path) -> Path:
    """Unpack the package's files into a folder."""
    folder = package.with_suffix(".unpacked")
    folder.mkdir()
    if package.suffix == ".deb":
        output("dpkg-deb", "-x", package, folder)
    else:
        content = subprocess.run(["rpm2cpio", package], capture_output=True, check=True).stdout
        subprocess.run(["cpio", "-id", "--quiet"], cwd=folder, input=content, check=True)
    return folder


@pytest.mark.parametrize("manager", ["zypper", "dnf4"])
def test_rpm_contains_the_certificate(
    tmp_path: Path, manager: str, private_ca: PrivateCA, use_certificate: pytest.MonkeyPatch
) -> None:
    """It has the files for SUSE and Red Hat and nothing else, and does not depend on the architecture."""
    package = build(tmp_path, manager, private_ca.certificate, use_certificate)
    assert package.suffix == ".rpm"
    assert tuple(output("rpm", "-qpl", package).split()) == RPM_FILES
    assert output("rpm", "-qp", "--qf", "%{NAME} %{ARCH} %{PAYLOADCOMPRESSOR}", package) == "site-root-ca noarch gzip"
    requires = [line for line in output("rpm", "-qpR", package).splitlines() if not line.startswith("rpmlib(")]
    assert requires == ["/bin/sh"]
    folder = unpack(package)
    for name in RPM_FILES:
        path = folder / name.removeprefix("/")
        assert path.read_bytes() == private_ca.certificate.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o644


def test_rpm_updates_the_trust_store(
    tmp_path: Path, private_ca: PrivateCA, use_certificate: pytest.MonkeyPatch
) -> None:
    """It runs the update program of the image. Installation does not fail if that is missing or fails."""
    package = build(tmp_path, "zypper", private_ca.certificate, use_certificate)
    script = output("rpm", "-qp", "--qf", "%{POSTIN}", package)
    programs = tmp_path / "bin"
    programs.mkdir()
    for present in ("", "update-ca-certificates", "update-ca-trust"):
        (programs / (present or "other")).write_text(f"#!/bin/sh\necho {present} >> {tmp_path}/ran\nexit 1\n")
        (programs / (present or "other")).chmod(0o755)
        subprocess.run(["/bin/sh", "-e", "-c", script], env={"PATH": str(programs)}, check=True)
    assert (tmp_path / "ran").read_text().split() == [
        "update-ca-certificates",
        "update-ca-certificates",
        "update-ca-trust",
    ]


def test_deb_contains_the_certificate(
    tmp_path: Path, private_ca: PrivateCA, use_certificate: pytest.MonkeyPatch
) -> None:
    """It is where update-ca-certificates expects it. The package's script runs that; root owns all files."""
    package = build(tmp_path, "apt", private_ca.certificate, use_certificate)
    assert output("dpkg-deb", "-f", package, "Package", "Architecture", "Depends").splitlines() == [
        "Package: site-root-ca",
        "Architecture: all",
        "Depends: ca-certificates",
    ]
    entries = [line.split() for line in output("dpkg-deb", "-c", package).splitlines()]
    assert {entry[1] for entry in entries} == {"root/root"}
    assert [entry[-1] for entry in entries if not entry[-1].endswith("/")] == [f".{DEB_FILE}"]
    assert (unpack(package) / DEB_FILE.removeprefix("/")).read_bytes() == private_ca.certificate.read_bytes()
    output("dpkg-deb", "-e", package, tmp_path / "control")
    assert (tmp_path / "control" / "postinst").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "control" / "postinst").read_text().splitlines()[-1] == "update-ca-certificates"


CRAY = "/etc/cray/ca/certificate_authority.crt"


@pytest.mark.parametrize("manager", MANAGERS)
def test_further_places(
    tmp_path: Path, manager: str, private_ca: PrivateCA, use_certificate: pytest.MonkeyPatch
) -> None:
    """Services of CSM look for the certificate in a file of their own. A change of the places is a build input."""
    before = inputs.certificate_digest(private_ca.certificate, ())
    use_certificate.setenv("IMS_CA_PLACES", f"{CRAY}, /etc/site/ca.pem")
    folder = unpack(build(tmp_path, manager, private_ca.certificate, use_certificate))
    for name in (CRAY, "/etc/site/ca.pem", DEB_FILE if manager == "apt" else RPM_FILES[0]):
        assert (folder / name.removeprefix("/")).read_bytes() == private_ca.certificate.read_bytes()
    assert inputs.certificate_digest(private_ca.certificate, settings().further_ca_files) != before


@pytest.mark.parametrize("place", ["relative", "/etc/../x", "/etc/a b", "/etc/x\n%post", "/"])
def test_bad_place(place: str) -> None:
    """A setting that is no plain path is refused."""
    with pytest.raises(ValidationError, match="ca_places"):
        Settings(ca_places=place)


@pytest.mark.parametrize("manager", MANAGERS)
def test_same_certificate_gives_the_same_bytes(
    tmp_path: Path, manager: str, private_ca: PrivateCA, use_certificate: pytest.MonkeyPatch
) -> None:
    """Folder, time and host name have no effect."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    package = build(here, manager, private_ca.certificate, use_certificate)
    data = json.dumps({"workspace": str(there), "package_manager": manager})
    program = f'hostname other-machine && exec "{sys.executable}" -m ims.steps build_ca_package --result "$1"'
    command = ["unshare", "--uts", "sh", "-c", program, "sh", str(there / "result.json")]
    environment = {**os.environ, "TZ": "Asia/Tokyo"}
    subprocess.run(command, env=environment, input=data.encode(), capture_output=True, check=True)
    other = Path(json.loads((there / "result.json").read_text())["result"])
    assert other.read_bytes() == package.read_bytes()


@pytest.mark.parametrize("manager", MANAGERS)
def test_private_key_in_the_file_is_not_packaged(
    tmp_path: Path, manager: str, private_ca: PrivateCA, use_certificate: pytest.MonkeyPatch
) -> None:
    """Many sites keep certificate and key in one file. The key must not get into images."""
    both = tmp_path / "both.pem"
    key = private_ca.issue("127.0.0.1").key.read_text()
    both.write_text(key + private_ca.certificate.read_text())
    folder = unpack(build(tmp_path, manager, both, use_certificate))
    files = [path.read_text() for path in folder.rglob("*") if path.is_file()]
    assert files
    assert all("PRIVATE KEY" not in text for text in files)
    assert all("BEGIN CERTIFICATE" in text for text in files)


BAD = {
    "empty": b"",
    "text": b"not a certificate",
    "half": b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    "a key": None,
    "DER": None,
}


@pytest.mark.parametrize("kind", [*BAD, "missing", "a folder"])
def test_bad_certificate_is_a_configuration_error(
    tmp_path: Path, kind: str, private_ca: PrivateCA, use_certificate: pytest.MonkeyPatch
) -> None:
    """The error names the file and the setting. No package is built."""
    path = tmp_path / "ca.pem"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a key":
        path.write_bytes(private_ca.issue("127.0.0.1").key.read_bytes())
    elif kind == "DER":
        certificate = x509.load_pem_x509_certificate(private_ca.certificate.read_bytes())
        path.write_bytes(certificate.public_bytes(Encoding.DER))
    elif kind != "missing":
        path.write_bytes(BAD[kind] or b"")
    with pytest.raises(ConfigurationError, match=str(path)) as caught:
        build(tmp_path, "zypper", path, use_certificate)
    assert "IMS_CA_CERTIFICATE" in caught.value.hint
    assert not (tmp_path / "ca").exists()


def test_package_of_an_earlier_try_is_replaced(
    tmp_path: Path, private_ca: PrivateCA, use_certificate: pytest.MonkeyPatch
) -> None:
    """The step can run again."""
    first = build(tmp_path, "apt", private_ca.certificate, use_certificate).read_bytes()
    (tmp_path / "ca" / "half").touch()
    assert build(tmp_path, "apt", private_ca.certificate, use_certificate).read_bytes() == first
    assert not (tmp_path / "ca" / "half").exists()
