"""What kiwi and the package managers see of the host. All mounts are private to the step."""

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
BUNDLE = CERTIFICATES / "ca-certificates.crt"


def isolate(package_manager: str, workspace: Workspace) -> None:
    """Hide the host's package database and configuration from a build, and make the build trust the site's CA."""
    _mount_empty("/var/log")
    _make_sysfs_writable()
    if package_manager == APT:
        _hide_apt()
    else:
        _hide_rpm()
    _trust(settings().ca_certificate_path, workspace.certificates)


def _make_sysfs_writable() -> None:
    """Remount /sys, which may be read-only in a pod. Debian's first package sets the time of a file in it."""
    if os.statvfs("/sys").f_flag & os.ST_RDONLY:
        _mount("-o", "remount,rw", "/sys")


def _hide_apt() -> None:
    """Hide the locks and the settings of the host's apt, which kiwi runs to fill the new root. Keeps the proxies."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    proxies = [line for line in dump.splitlines() if line.startswith(("Acquire::http", "Acquire::https"))]
    _mount_empty("/var/lib/dpkg", "info", "updates", "triggers")
    Path("/var/lib/dpkg/status").touch()
    _mount_empty("/etc/apt", "apt.conf.d", "keyrings", "preferences.d", "sources.list.d")
    Path("/etc/apt/apt.conf.d/90host").write_text("\n".join(proxies) + "\n")


def _hide_rpm() -> None:
    """Replace Debian's macros, which put rpm's database in the home folder, where other systems do not look for it."""
    _mount_empty("/usr/lib/rpm/macros.d")
    Path("/usr/lib/rpm/macros.d/macros.image").write_text("%_dbpath /var/lib/rpm\n")


def _mount_empty(folder: str, *subfolders: str) -> None:
    _mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", folder)
    for name in subfolders:
        Path(folder, name).mkdir()


def _trust(certificate: Path, copy: Path) -> None:
    """Mount a copy of the system's certificates with the site's CA among them.

    apt reads the bundle; zypper and dnf look up a certificate by the hash of its subject.
    """
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(CERTIFICATES, copy, symlinks=True)
    bundle = copy / BUNDLE.name
    bundle.write_bytes(bundle.read_bytes() + b"\n" + certificate.read_bytes())
    subject_hash = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", certificate], capture_output=True, text=True, check=True
    ).stdout.strip()
    shutil.copyfile(certificate, copy / f"{subject_hash}.0")
    _mount("--bind", copy, CERTIFICATES)


@contextmanager
def kernel_file_systems(root: Path) -> Iterator[None]:
    """Mount /dev, /proc and /sys in an image root. Without them, `>/dev/null` in a script would create a plain file."""
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
