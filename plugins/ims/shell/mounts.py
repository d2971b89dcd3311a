"""The mounts of a session, in the image root and, if it is not jailed, around it.

They are made before the first session starts: the user of a shell can put a link at any path in the image.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ims.errors import InputError
from ims.sandbox import kernel, users
from ims.sandbox.enter import TTY_GROUP
from ims.sandbox.view import give_away, make_devices
from ims.shell import paths

MOUNT_POINTS = ("dev", "proc", "run", "sys")
_RUN_SIZE, _DEVICES_SIZE = "256m", "64m"
_SHOWN_IN_RUN = {paths.TOOLS.name: paths.INSTALLED_TOOLS, paths.LOG.name: paths.LOG}
_READ_ONLY = kernel.READ_ONLY | kernel.NO_SETUID | kernel.NO_DEVICES

# The files of /etc that the host's tools read. Everything else is hidden, above all files that may hold passwords.
_ETC = (
    *("alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "debian_version", "group", "hosts"),
    *("inputrc", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "login.defs", "magic"),
    *("mime.types", "nanorc", "nsswitch.conf", "os-release", "passwd", "profile", "profile.d", "protocols", "services"),
    *("python3", "python3.11", "rpm", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone", "vim", "xattr.conf"),
)
_PROGRAMS = ("usr", "bin", "lib", "lib32", "lib64", "libx32", "sbin", "var/lib/dpkg")
_FOLDERS = ("dev", "mnt/image", "proc", "root", "run", "sys", "tmp", "var/tmp")


def mount_host(root: Path, owner: int) -> None:
    """Mount a root with the programs of the host. The rest consists of empty folders, which belong to `owner`."""
    kernel.mount("tmpfs", root, "tmpfs", kernel.NO_SETUID, "mode=755,size=4m")
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True)
    (root / "var/run").symlink_to("/run")
    found = [name for name in (*_PROGRAMS, *(f"etc/{name}" for name in _ETC)) if os.path.lexists(Path("/", name))]
    mounted = [name for name in found if not _link(Path("/", name), root / name)]
    for name in mounted:
        _make_like(Path("/", name), root / name)
    (root / "etc/resolv.conf").touch()
    give_away(root, owner)
    for name in mounted:
        _bind(Path("/", name), root / name)
    _bind(paths.RESOLV_CONF, root / "etc/resolv.conf")


def replace_programs(root: Path, names: Iterable[str], script: Path) -> None:
    """Mount a script over programs of /usr/bin, as far as they exist."""
    for name in names:
        program = Path("/usr/bin", name).resolve()
        if program.is_file():
            _bind(script, root / program.relative_to("/"))


def _link(source: Path, target: Path) -> bool:
    """Make the same link as `source`, if it is one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(source.readlink())
    return source.is_symlink()


def _make_like(source: Path, target: Path) -> None:
    target.mkdir() if source.is_dir() else target.touch()


def _bind(source: Path, target: Path) -> None:
    """Mount what is at `source`, with everything that is mounted in it, read-only."""
    kernel.attach_mount(kernel.clone_mount(source, _READ_ONLY, recursive=True), target)


def make_mount_points(image: Path) -> None:
    """Make the folders of an image root in which something is mounted. Raises InputError if one is a link or a file."""
    for name in (*MOUNT_POINTS, "tmp"):
        path = image / name
        if not os.path.lexists(path):
            path.mkdir()
            path.chmod(0o1777 if name == "tmp" else 0o755)
        elif path.is_symlink() or not path.is_dir():
            raise InputError(f"/{name} of the image is not a folder", "Make it a folder in the image")


def mount_private_folders(root: Path, owner: int, resolv_conf: PurePosixPath, image: Path | None = None) -> None:
    """Mount /run and /dev in `root` and in the image root `image`, and name resolution at `resolv_conf` of the image.

    Without `image`, it is `root`.
    """
    in_run = resolv_conf.parts[1] == "run"
    _mount_run(root / "run", owner, resolv_conf.relative_to("/run") if in_run else None)
    _mount_devices(root / "dev", owner)
    if image is not None:
        for name in ("run", "dev"):
            kernel.attach_mount(kernel.clone_mount(root / name, 0, recursive=True), image / name)
    if not in_run:
        target = (image or root) / resolv_conf.relative_to("/")
        users.call_as(owner, lambda: _make_file(target))
        _bind(paths.RESOLV_CONF, target)


def _mount_run(run: Path, owner: int, resolv_conf: PurePosixPath | None) -> None:
    kernel.mount("tmpfs", run, "tmpfs", kernel.NO_SETUID | kernel.NO_DEVICES, f"mode=755,size={_RUN_SIZE}")
    (run / "lock").mkdir()
    (run / "lock").chmod(0o1777)
    shown = {source: run / name for name, source in _SHOWN_IN_RUN.items() if source.exists()}
    for source, target in shown.items():
        _make_like(source, target)
    if resolv_conf is not None:
        # In a running system, a service creates the target of the link.
        _make_file(run / resolv_conf)
        (run / resolv_conf).write_bytes(paths.RESOLV_CONF.read_bytes())
    give_away(run, owner)
    for source, target in shown.items():
        _bind(source, target)


def _make_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _mount_devices(folder: Path, owner: int) -> None:
    """Mount harmless devices, and the terminals of the SSH server."""
    kernel.mount("tmpfs", folder, "tmpfs", kernel.NO_SETUID, f"mode=755,size={_DEVICES_SIZE}")
    make_devices(folder)
    give_away(folder, owner)
    # A new terminal belongs to the user that opens it, but to this group.
    options = f"ptmxmode=0666,mode=0620,gid={owner + TTY_GROUP}"
    kernel.mount("devpts", Path("/dev/pts"), "devpts", kernel.REMOUNT, options)
    terminals = kernel.NO_SETUID | kernel.NO_EXECUTION
    kernel.attach_mount(kernel.clone_mount(Path("/dev/pts"), terminals), folder / "pts")


def make_read_only(root: Path) -> None:
    """Make a mount read-only, but not those in it."""
    kernel.mount("none", root, "none", kernel.REMOUNT | kernel.BIND | kernel.READ_ONLY | kernel.NO_SETUID)
