"""What kiwi and the package managers see of the machine they run on, arranged in the step's own mount namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ims.recipes.description import APT
from ims.settings import settings
from ims.workspace import Workspace

CERTIFICATES = Path("/etc/ssl/certs")
BUNDLE = "ca-certificates.crt"


def isolate(package_manager: str, workspace: Workspace) -> None:
    """Keep the build away from the host's package database, and have it trust the site's CA."""
    _empty("/var/log")
    _open_sysfs()
    if package_manager == APT:
        _cover_apt()
    else:
        _cover_rpm()
    _trust(settings().ca_certificate_path, workspace.certificates)


def _open_sysfs() -> None:
    """A pod's /sys may be read-only, as its first container had it. Debian's first package sets a time on it."""
    if os.statvfs("/sys").f_flag & os.ST_RDONLY:
        _mount("-o", "remount,rw", "/sys")


def _cover_apt() -> None:
    """kiwi has the host's apt-get fill the new root: without this it would take the host's locks and settings."""
    proxies = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    wanted = [line for line in proxies.splitlines() if line.startswith(("Acquire::http", "Acquire::https"))]
    _empty("/var/lib/dpkg", "info", "updates", "triggers")
    Path("/var/lib/dpkg/status").touch()
    _empty("/etc/apt", "apt.conf.d", "keyrings", "preferences.d", "sources.list.d")
    Path("/etc/apt/apt.conf.d/90host").write_text("\n".join(wanted) + "\n")


def _cover_rpm() -> None:
    """Debian's rpm keeps its database in the home folder; the image's belongs where every other system looks."""
    _empty("/usr/lib/rpm/macros.d")
    Path("/usr/lib/rpm/macros.d/macros.image").write_text("%_dbpath /var/lib/rpm\n")


def _empty(folder: str, *below: str) -> None:
    _mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", folder)
    for name in below:
        Path(folder, name).mkdir()


def _trust(certificate: Path, copy: Path) -> None:
    """Show a copy of the system's certificates with the site's CA among them.

    apt reads the bundle, zypper and dnf look a certificate up by the hash of its subject.
    """
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(CERTIFICATES, copy, symlinks=True)
    bundle = copy / BUNDLE
    bundle.write_bytes(bundle.read_bytes() + b"\n" + certificate.read_bytes())
    hashed = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", certificate], capture_output=True, text=True, check=True
    ).stdout.strip()
    shutil.copyfile(certificate, copy / f"{hashed}.0")
    _mount("--bind", copy, CERTIFICATES)


@contextmanager
def kernel_file_systems(root: Path) -> Iterator[None]:
    """Show /dev, /proc and /sys in an image root: without them a script's `>/dev/null` would make a plain file."""
    names = [name for name in ("dev", "proc", "sys") if (root / name).is_dir() and not (root / name).is_symlink()]
    for name in names:
        _mount("--rbind", f"/{name}", root / name)
    try:
        yield
    finally:
        for name in names:
            subprocess.run(["umount", "--recursive", "--lazy", root / name], check=True)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)
