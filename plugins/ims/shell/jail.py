"""What a session sees and may do: the arguments of bubblewrap, for jailed and for unjailed shells.

    jailed      /             the image root
    unjailed    /             the host's programs, read-only; none of its data, secrets and processes
                /mnt/image    the folder image-root, and next to it the markers

Both have private /proc, /dev and /sys, the network of `ims.shell.network`, and few capabilities.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ims.errors import InputError
from ims.images.packages import RPM
from ims.images.root import follow_links, resolve_inside
from ims.removal import remove
from ims.sandbox.bubblewrap import private_dev, private_proc
from ims.sandbox.overlay import mount
from ims.shell import paths

MOUNT_POINTS = ("dev", "proc", "run", "sys")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_MAX_LOG = 64 * 1024**2
_NO_SHELLS = ("false", "nologin")

# The files of /etc that the host's tools read. Everything else is hidden, above all files that may hold passwords.
_ETC = (
    *("alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "debian_version", "group", "hosts"),
    *("inputrc", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "login.defs", "magic"),
    *("mime.types", "nanorc", "nsswitch.conf", "os-release", "passwd", "profile", "profile.d", "protocols", "services"),
    *("python3", "python3.11", "rpm", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone", "vim", "xattr.conf"),
)


def prepare(root: Path) -> None:
    """Mount in an image root what all sessions share. Must be called before the first session starts.

    Raises InputError if a mount point of the image is a link or a file.
    """
    for name in MOUNT_POINTS:
        _make_mount_point(root / name, 0o755)
    _make_mount_point(root / "tmp", 0o1777)
    mount("--rbind", paths.SHARED_RUN, root / "run")
    mount("--bind", paths.SYS, root / "sys")
    resolv_conf = find_resolv_conf(root)
    if resolv_conf.parts[1] == "run":
        # In a running system, a service creates the target of the link.
        target = paths.SHARED_RUN.joinpath(*resolv_conf.parts[2:])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(paths.RESOLV_CONF.read_bytes())
        return
    target = root / resolv_conf.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.touch()
    mount("--bind", "-o", "ro", paths.RESOLV_CONF, target)


def _make_mount_point(path: Path, mode: int) -> None:
    if os.path.lexists(path):
        if path.is_symlink() or not path.is_dir():
            raise InputError(f"/{path.name} of the image is not a folder", "Make it a folder in the image")
        return
    path.mkdir()
    path.chmod(mode)


def find_resolv_conf(root: Path) -> PurePosixPath:
    """The path in the image that /etc/resolv.conf refers to. The file need not exist.

    Raises InputError if the links form a loop.
    """
    try:
        return PurePosixPath("/", follow_links(root, "/etc/resolv.conf").relative_to(root))
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InputError("/etc/resolv.conf of the image is a link to itself", "Make it a file") from None


def mount_log(log: Path, folder: Path) -> None:
    """Mount a copy of a log, read-only, in a folder that sessions see.

    Programs of the job wrote the log, and sessions may have put a link at the place of the mount.
    """
    copy = paths.PRIVATE / log.name
    with log.open("rb") as file:
        copy.write_bytes(file.read(_MAX_LOG))
    remove(folder / log.name)
    (folder / log.name).touch()
    mount("--bind", "-o", "ro", copy, folder / log.name)


def jailed(root: Path) -> list[str]:
    """The arguments of bubblewrap for a session in the image root."""
    return [
        *("--bind", str(root), "/"),
        *_kernel_file_systems(""),
        *_environment(login_shell(root), markers="/tmp", image_root="/"),  # noqa: S108
    ]


def unjailed(root: Path, image: Path, scratch: Path, mounts: Mapping[Path, Path] | None = None) -> list[str]:
    """The arguments of bubblewrap for a session with the host's tools.

    `image` becomes /mnt/image, and `scratch` takes what sessions write to /tmp and /root. `mounts` maps more folders
    of the host to the paths at which they are mounted, read-only.
    """
    for name in ("home", "tmp"):
        (scratch / name).mkdir(parents=True, exist_ok=True)
    (scratch / "tmp").chmod(0o1777)
    # Debian's rpm keeps its database in the home folder. Here it must use the database of the image.
    database = next((name for name in RPM if resolve_inside(root, name)), RPM[-1])
    # Earlier sessions may have put links at these paths.
    macros, mount_point = scratch / "home" / ".rpmmacros", image / paths.IMAGE_ROOT.name
    remove(macros)
    macros.write_text(f"%_dbpath /{database}\n")
    if mount_point.is_symlink():
        mount_point.unlink()
    mount_point.mkdir(parents=True, exist_ok=True)
    folders = ("/etc", "/etc/ssl", "/mnt", "/var", "/var/lib")
    return [
        *(part for folder in folders for part in ("--perms", "0755", "--dir", folder)),
        *("--ro-bind", "/usr", "/usr"),
        *(part for name in ("bin", "lib", "lib32", "lib64", "libx32", "sbin") for part in _bind_same(f"/{name}")),
        *(part for name in _ETC for part in ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")),
        *("--ro-bind", str(paths.RESOLV_CONF), "/etc/resolv.conf"),
        *("--ro-bind-try", "/var/lib/dpkg", "/var/lib/dpkg"),
        *("--bind", str(scratch / "tmp"), "/tmp", "--bind", str(scratch / "tmp"), "/var/tmp"),  # noqa: S108
        *("--bind", str(scratch / "home"), "/root"),
        *("--bind", str(paths.SHARED_RUN), "/run", "--symlink", "/run", "/var/run"),
        *("--ro-bind", str(paths.SYS), "/sys"),
        *_kernel_file_systems(""),
        *("--bind", str(image), str(paths.IMAGE), "--bind", str(root), str(paths.IMAGE_ROOT)),
        *_kernel_file_systems(str(paths.IMAGE_ROOT)),
        *(part for source, target in (mounts or {}).items() for part in ("--ro-bind", str(source), str(target))),
        *("--remount-ro", "/"),
        *_environment("/bin/bash", markers=str(paths.IMAGE), image_root=str(paths.IMAGE_ROOT)),
    ]


def _bind_same(path: str) -> list[str]:
    """The link or folder of the host at the same path, if it exists."""
    if Path(path).is_symlink():
        return ["--symlink", str(Path(path).readlink()), path]
    return ["--ro-bind-try", path, path]


def _kernel_file_systems(root: str) -> list[str]:
    """/proc with the processes of the sessions, /dev without the host's devices, and the terminals of sshd."""
    return [*private_proc(root), *private_dev(root), "--dev-bind", "/dev/pts", f"{root}/dev/pts"]


def _environment(shell: str, markers: str, image_root: str) -> list[str]:
    values = {
        "HOME": "/root",
        "PATH": f"{PATH}:{paths.TOOLS}/bin",
        "SHELL": shell,
        "IMS_IMAGE_ROOT": image_root,
        "IMS_MARKERS": markers,
        **{name: os.environ[name] for name in _PROXIES if name in os.environ},
    }
    return [part for name, value in values.items() for part in ("--setenv", name, value)]


def login_shell(root: Path) -> str:
    """The login shell of root in an image; /bin/sh if the image has no usable one."""
    passwd = resolve_inside(root, "/etc/passwd")
    lines = passwd.read_text(errors="replace").splitlines() if passwd is not None and passwd.is_file() else []
    shells = [line.rpartition(":")[2] for line in lines if line.startswith("root:")]
    for shell in shells:
        if Path(shell).name not in ("", *_NO_SHELLS) and resolve_inside(root, shell):
            return shell
    return "/bin/sh"
