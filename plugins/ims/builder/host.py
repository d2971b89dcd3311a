"""Prepares a sandbox, whose /etc is a private copy, for kiwi and the package managers."""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from ims.recipes.description import APT
from ims.recipes.legacy_functions import provided_functions
from ims.sandbox.overlay import mount
from ims.settings import settings

_FUNCTIONS = Path("/run/functions.sh")
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
# Debian's macros put rpm's database in the home folder, where other systems do not look for it. In the sandbox,
# packages cannot change the owner and mode of /proc and /sys.
_RPM_MACROS = "%_dbpath /var/lib/rpm\n%_netsharedpath /proc:/sys\n"


def prepare(package_manager: str) -> None:
    """Give package managers an empty configuration, make them trust the site's CA, and complete kiwi's functions."""
    if package_manager == APT:
        for name in ("apt.conf.d", "keyrings", "preferences.d", "sources.list.d"):
            Path("/etc/apt", name).mkdir(parents=True)
        for name in ("info", "updates", "triggers"):
            Path("/var/lib/dpkg", name).mkdir(parents=True)
        Path("/var/lib/dpkg/status").touch()
    else:
        mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/usr/lib/rpm/macros.d")
        Path("/usr/lib/rpm/macros.d/macros.image").write_text(_RPM_MACROS)
    trust(settings().ca_certificate_path)
    complete_functions()


def complete_functions() -> None:
    """Add to the shell functions that kiwi copies into the image root those of older versions that do nothing."""
    spec = find_spec("kiwi")
    assert spec is not None
    assert spec.origin is not None
    original = Path(spec.origin).parent / "config" / "functions.sh"
    _FUNCTIONS.write_text(original.read_text() + provided_functions())
    mount("--bind", _FUNCTIONS, original)


def trust(certificate: Path) -> None:
    """Add a certificate to those of the system.

    apt reads the bundle; zypper and dnf look up a certificate by the hash of its subject.
    """
    BUNDLE.write_bytes(BUNDLE.read_bytes() + b"\n" + certificate.read_bytes())
    subject_hash = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", certificate], capture_output=True, text=True, check=True
    ).stdout.strip()
    shutil.copyfile(certificate, BUNDLE.with_name(f"{subject_hash}.0"))
