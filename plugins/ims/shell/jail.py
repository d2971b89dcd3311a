"""What a session sees and may do: one bubblewrap command line for the jailed shell, one for the other.

    jailed      /             the image root
    unjailed    /             this machine's programs, read-only; none of its data, secrets and processes
                /mnt/image    image-root, and the markers beside it

Both have /proc, /dev and /sys of their own, the network and name resolution of the machine, and few capabilities.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ims.errors import InputError
from ims.images.overlay import mount
from ims.images.packages import RPM
from ims.images.root import resolve_inside
from ims.shell import places
from ims.shell.resolving import resolv_conf_of

# What package managers need. Not DAC_READ_SEARCH, which opens any file of a file system by its handle; not MKNOD; not
# SYS_ADMIN. AUDIT_WRITE: without it PAM refuses to change accounts.
CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"),
    *("KILL", "SETFCAP", "SETGID", "SETUID", "SYS_CHROOT"),
)
MOUNT_POINTS = ("dev", "proc", "run", "sys")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Of /proc. bubblewrap leaves some writable for the real root, and who writes core_pattern has the machine.
_READ_ONLY = ("acpi", "bus", "fs", "irq", "scsi", "sys", "sysrq-trigger")
_MASKED = ("kcore", "keys", "kmsg", "sched_debug", "timer_list")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
_NO_SHELLS = ("false", "nologin")

# What the builder's tools read of /etc. Everything else, and whatever may hold a password, is left out.
_ETC = (
    *("alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "debian_version", "group", "hosts"),
    *("inputrc", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "login.defs", "magic"),
    *("mime.types", "nanorc", "nsswitch.conf", "os-release", "passwd", "profile", "profile.d", "protocols", "services"),
    *("python3", "python3.11", "rpm", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone", "vim", "xattr.conf"),
)


def prepare(root: Path) -> None:
    """Mount in an image root what its sessions share, before the first of them.

    Raises InputError: a link or a file is where a mount point has to be.
    """
    for name in MOUNT_POINTS:
        _folder(root / name, 0o755)
    _folder(root / "tmp", 0o1777)
    mount("--rbind", places.SHARED_RUN, root / "run")
    mount("--bind", places.SYS, root / "sys")
    resolv_conf = resolv_conf_of(root)
    if resolv_conf.parts[1] == "run":
        # The link's target is a file that a service makes; ours is in its place.
        target = places.SHARED_RUN.joinpath(*resolv_conf.parts[2:])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(places.RESOLV_CONF.read_bytes())
        return
    target = root / resolv_conf.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.touch()
    mount("--bind", "-o", "ro", places.RESOLV_CONF, target)


def _folder(path: Path, mode: int) -> None:
    if os.path.lexists(path):
        if path.is_symlink() or not path.is_dir():
            raise InputError(f"/{path.name} of the image is not a folder", "It has to be one")
        return
    path.mkdir()
    path.chmod(mode)


def show_log(log: Path, folder: Path) -> None:
    """Show a log, read-only, in a folder that sessions see."""
    (folder / log.name).touch()
    mount("--bind", "-o", "ro", log, folder / log.name)


def jailed(root: Path) -> list[str]:
    """bubblewrap's arguments for a session in the image root."""
    return [
        *("--bind", str(root), "/"),
        *_kernel(""),
        *_environment(login_shell(root), markers="/tmp", shown_as="/"),  # noqa: S108
    ]


def unjailed(root: Path, image: Path, scratch: Path, besides: Mapping[Path, Path] | None = None) -> list[str]:
    """bubblewrap's arguments for a session with the builder's tools.

    `image` is /mnt/image; `scratch` holds what sessions write to /tmp and home; `besides` are more folders of this
    machine, each with the path at which it is shown, read-only.
    """
    for name in ("home", "tmp"):
        (scratch / name).mkdir(parents=True, exist_ok=True)
    (scratch / "tmp").chmod(0o1777)
    # Debian's rpm keeps its database in the home folder; that of the image is where its own rpm looks.
    database = next((name for name in RPM if resolve_inside(root, name)), RPM[-1])
    (scratch / "home" / ".rpmmacros").write_text(f"%_dbpath /{database}\n")
    (image / places.IMAGE_ROOT.name).mkdir(parents=True, exist_ok=True)
    folders = ("/etc", "/etc/ssl", "/mnt", "/var", "/var/lib")
    return [
        *(part for folder in folders for part in ("--perms", "0755", "--dir", folder)),
        *("--ro-bind", "/usr", "/usr"),
        *(part for name in ("bin", "lib", "lib32", "lib64", "libx32", "sbin") for part in _same(f"/{name}")),
        *(part for name in _ETC for part in ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")),
        *("--ro-bind", str(places.RESOLV_CONF), "/etc/resolv.conf"),
        *("--ro-bind-try", "/var/lib/dpkg", "/var/lib/dpkg"),
        *("--bind", str(scratch / "tmp"), "/tmp", "--bind", str(scratch / "tmp"), "/var/tmp"),  # noqa: S108
        *("--bind", str(scratch / "home"), "/root"),
        *("--bind", str(places.SHARED_RUN), "/run", "--symlink", "/run", "/var/run"),
        *("--ro-bind", str(places.SYS), "/sys"),
        *_kernel(""),
        *("--bind", str(image), str(places.IMAGE), "--bind", str(root), str(places.IMAGE_ROOT)),
        *_kernel(str(places.IMAGE_ROOT)),
        *(part for source, shown in (besides or {}).items() for part in ("--ro-bind", str(source), str(shown))),
        *("--remount-ro", "/"),
        *_environment("/bin/bash", markers=str(places.IMAGE), shown_as=str(places.IMAGE_ROOT)),
    ]


def _same(path: str) -> list[str]:
    """The same link or folder as on this machine, if it is there."""
    if Path(path).is_symlink():
        return ["--symlink", str(Path(path).readlink()), path]
    return ["--ro-bind-try", path, path]


def _kernel(root: str) -> list[str]:
    """/proc of the sessions' processes, /dev without devices of the machine, terminals that sshd made."""
    closed = [(f"/proc/{name}", name) for name in _READ_ONLY] + [("/dev/null", name) for name in _MASKED]
    there = [(source, name) for source, name in closed if Path("/proc", name).exists()]
    return [
        *("--proc", f"{root}/proc"),
        *(part for source, name in there for part in ("--ro-bind", source, f"{root}/proc/{name}")),
        *("--dev", f"{root}/dev", "--dev-bind", "/dev/pts", f"{root}/dev/pts"),
    ]


def _environment(shell: str, markers: str, shown_as: str) -> list[str]:
    values = {
        "HOME": "/root",
        "PATH": f"{PATH}:{places.TOOLS}/bin",
        "SHELL": shell,
        "IMS_IMAGE_ROOT": shown_as,
        "IMS_MARKERS": markers,
        **{name: os.environ[name] for name in _PROXIES if name in os.environ},
    }
    return [part for name, value in values.items() for part in ("--setenv", name, value)]


def login_shell(root: Path) -> str:
    """root's shell in an image, if it has one."""
    passwd = resolve_inside(root, "/etc/passwd")
    lines = passwd.read_text(errors="replace").splitlines() if passwd is not None and passwd.is_file() else []
    shells = [line.rpartition(":")[2] for line in lines if line.startswith("root:")]
    for shell in shells:
        if Path(shell).name not in ("", *_NO_SHELLS) and resolve_inside(root, shell):
            return shell
    return "/bin/sh"


def isolation(name: str, folder: str = "/") -> list[str]:
    """bubblewrap's arguments for capabilities and namespaces.

    `name` becomes the host's, as far as it can be one; `folder` is where a session starts.
    """
    hostname = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:63] or "image"
    return [
        *("--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--hostname", hostname, "--chdir", folder),
        *("--cap-drop", "ALL"),
        *(part for capability in CAPABILITIES for part in ("--cap-add", f"CAP_{capability}")),
    ]
