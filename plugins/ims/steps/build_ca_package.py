"""Builds a package with the site's root CA certificate, which kiwi then installs like any other package."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ims.errors import ConfigurationError, ImsError
from ims.images.site_ca import FILE_NAME, PACKAGE
from ims.recipes.description import APT
from ims.settings import settings
from ims.steps.step import Step, StepInput

log = logging.getLogger(__name__)

VERSION = "1.0"

# SUSE and Red Hat have different folders and programs for trusted certificates. One package serves both.
SPEC = f"""\
Name: {PACKAGE}
Version: {VERSION}
Release: 1
Summary: Root CA certificate of this site
License: Apache-2.0
BuildArch: noarch
AutoReqProv: no
# Installed after the programs that %post calls, but does not need them.
OrderWithRequires: ca-certificates
OrderWithRequires(post): ca-certificates coreutils p11-kit-tools

%description
Root CA certificate of this site, trusted by the whole system.

%install
install -D -m 0644 %{{_sourcedir}}/{FILE_NAME} %{{buildroot}}/usr/share/pki/trust/anchors/{FILE_NAME}
install -D -m 0644 %{{_sourcedir}}/{FILE_NAME} %{{buildroot}}/etc/pki/ca-trust/source/anchors/{FILE_NAME}

%post
for program in update-ca-certificates update-ca-trust; do
    if command -v $program >/dev/null 2>&1; then $program || :; fi
done

%files
/usr/share/pki/trust/anchors/{FILE_NAME}
/etc/pki/ca-trust/source/anchors/{FILE_NAME}
"""

CONTROL = f"""\
Package: {PACKAGE}
Version: {VERSION}
Architecture: all
Maintainer: Image management <root@localhost>
Depends: ca-certificates
Section: misc
Priority: optional
Description: Root CA certificate of this site
"""

POSTINST = """\
#!/bin/sh
set -e
update-ca-certificates
"""


class Input(StepInput):
    """`package_manager` is the package manager of the recipe. It decides whether an RPM or a .deb is built."""

    package_manager: str


def run(step: Input) -> str:
    """Builds the package in `ca/` and returns its path."""
    path = settings().ca_certificate_path
    certificate = read_certificate(path)
    folder = step.workspace.ca_package
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    build = build_deb if step.package_manager == APT else build_rpm
    package = build(certificate, folder, settings().further_ca_files)
    log.info("built %s with the certificate %s", package.name, path)
    return str(package)


def read_certificate(path: Path) -> bytes:
    """Read the certificates of a PEM file, which may also contain a private key, and return them as PEM.

    Raises ConfigurationError if the file contains no certificate.
    """
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the site's root CA certificate {path} cannot be read: {error}",
            "Set IMS_CA_CERTIFICATE to a PEM file",
        ) from None
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def _spec(places: Sequence[str]) -> str:
    """The spec file of an RPM that also has the certificate at `places`."""
    install = "".join(f"install -D -m 0644 %{{_sourcedir}}/{FILE_NAME} %{{buildroot}}{place}\n" for place in places)
    return SPEC.replace("\n%post\n", f"{install}\n%post\n") + "".join(f"{place}\n" for place in places)


def build_rpm(certificate: bytes, folder: Path, places: Sequence[str]) -> Path:
    """Build the RPM in `folder`; returns its path."""
    spec = folder / f"{PACKAGE}.spec"
    spec.write_text(_spec(places))
    (folder / FILE_NAME).write_bytes(certificate)
    # All paths are in `folder`, the host's rpm database is not used, and every version of rpm reads gzip.
    defines = {
        "_topdir": folder / "build",
        "_sourcedir": folder,
        "_rpmdir": folder,
        "_rpmfilename": f"{PACKAGE}-{VERSION}-1.noarch.rpm",
        "_binary_payload": "w9.gzdio",
        "_build_id_links": "none",
        "_buildhost": "localhost",
        "source_date_epoch_from_changelog": "0",
        "use_source_date_epoch_as_buildtime": "1",
        "clamp_mtime_to_source_date_epoch": "1",
    }
    arguments = [part for name, value in defines.items() for part in ("--define", f"{name} {value}")]
    _run(["rpmbuild", "-bb", "--quiet", *arguments, str(spec)], SOURCE_DATE_EPOCH="1")
    return folder / f"{PACKAGE}-{VERSION}-1.noarch.rpm"


def build_deb(certificate: bytes, folder: Path, places: Sequence[str]) -> Path:
    """Build the .deb in `folder`; returns its path."""
    tree = folder / "tree"
    for place in (f"/usr/local/share/ca-certificates/{FILE_NAME}", *places):
        target = tree / place.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(certificate)
    control = tree / "DEBIAN"
    control.mkdir(mode=0o755)
    (control / "control").write_text(CONTROL)
    (control / "postinst").write_text(POSTINST)
    (control / "postinst").chmod(0o755)
    package = folder / f"{PACKAGE}_{VERSION}_all.deb"
    _run(["dpkg-deb", "--root-owner-group", "--build", str(tree), str(package)], SOURCE_DATE_EPOCH="1")
    return package


def _run(command: list[str], **environment: str) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8", **environment},
    )
    if done.returncode != 0:
        output = (done.stderr or done.stdout).strip()[-500:]
        raise ImsError(f"{command[0]} ended with exit code {done.returncode}: {output}")


STEP = Step("build_ca_package", Input, run, parallel=True)
