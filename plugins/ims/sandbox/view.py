"""What a program in the box sees: the machine's programs, read-only, and the folders that its view names.

Everything else of the machine is absent: its data, its secrets, its processes and its devices.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import ims
from ims.sandbox import kernel
from ims.sandbox.limits import Limits
from ims.sandbox.overlay import Layers

# What programs read of /etc. All else is absent: files that may contain passwords, and settings of the machine.
_ETC = (
    *("alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "debconf.conf", "debian_version"),
    *("default", "dnf", "dpkg", "gai.conf", "group", "host.conf", "hosts", "inputrc", "ld.so.cache", "ld.so.conf"),
    *("ld.so.conf.d", "libdnf", "locale.alias", "localtime", "login.defs", "magic", "mime.types", "nsswitch.conf"),
    *("os-release", "passwd", "pki", "profile", "protocols", "python3", "python3.11", "rpm", "services", "ssl/certs"),
    *("ssl/openssl.cnf", "terminfo", "timezone", "xattr.conf", "zypp"),
)
_LINKS = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
_FOLDERS = ("dev", "etc/apt", "home", "mnt", "opt", "proc", "root", "run", "srv", "sys", "usr", "var/cache", "var/log")
_PACKAGE_DATABASES = ("var/lib/dpkg", "var/lib/rpm")
_PUBLIC_FOLDERS = ("tmp", "var/tmp")
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
# A new mount goes on one of these, so that the paths of the view stay reachable while it is made.
_PLACES = ("/mnt", "/srv", "/media", "/opt")
_HOME = Path("/root")
_SIZE = "512m"
"""The size of all folders in memory together, such as /tmp."""


@dataclass(frozen=True)
class View:
    """The folders that a box sees, at the same paths as outside.

    `writable` folders have their true owners on the disk. Folders in `hidden` appear empty, those in `readable` cannot
    be changed, even if they are part of a writable folder. `home` is a folder that is writable, too, but at /root.
    `image` is mounted at its target, which is a writable folder or part of one. With `everyone`, the files of all users
    can be read, not only those of the first 16 million users; this is for programs that run no programs of strangers.
    `network` is the descriptor of a network namespace, which `resolv_conf` fits; None: there is no network.
    """

    writable: tuple[Path, ...]
    readable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    home: Path | None = None
    image: Layers | None = None
    everyone: bool = False
    network: int | None = None
    resolv_conf: str = ""
    limits: Limits = field(default_factory=Limits)

    def to_json(self) -> str:
        """The view as text, for the program that makes the box."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> View:
        """The view that `to_json` wrote."""
        data = json.loads(text)
        folders = {name: tuple(map(Path, data[name])) for name in ("writable", "readable", "hidden")}
        image = Layers.from_dict(data["image"]) if data["image"] else None
        home = Path(data["home"]) if data["home"] else None
        return cls(**{**data, **folders, "home": home, "image": image, "limits": Limits(**data["limits"])})


def program_folders() -> tuple[Path, ...]:
    """The folders with Python and this project, as far as they are not part of /usr."""
    found = {Path(sys.prefix), Path(sys.base_prefix), Path(ims.__file__).parents[1]}
    return tuple(sorted(path for path in found if not path.is_relative_to("/usr")))


def make(view: View, owner: int, user_namespace: int) -> Path:
    """Make the file system of a box; returns its root. Needs a private mount namespace. Raises OSError.

    `owner` is the first user of the box, `user_namespace` the descriptor of its namespace.
    """
    root = place((*view.writable, *view.readable))
    sources = _clone(view, user_namespace)
    layers = [] if view.image is None else view.image.open(owner, user_namespace)
    kernel.mount("tmpfs", root, "tmpfs", kernel.NO_SETUID, f"mode=755,size={_SIZE},nr_inodes=200k")
    _fill(root, view.resolv_conf)
    for path, _ in sources:
        target = root / path.relative_to("/")
        if not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.mkdir() if path.is_dir() else target.touch()
    give_away(root, owner)
    # There are no mounts in /dev: kiwi shows it to an image without them.
    kernel.mount("tmpfs", root / "dev", "tmpfs", kernel.NO_SETUID, "mode=755,size=16m")
    make_devices(root / "dev")
    give_away(root / "dev", owner)
    for path, descriptor in sources:
        kernel.attach_mount(descriptor, root / path.relative_to("/"))
    for path in view.hidden:
        kernel.mount("tmpfs", root / path.relative_to("/"), "tmpfs", kernel.READ_ONLY, "mode=000,size=4k")
    for path, descriptor in layers:
        kernel.attach_mount(descriptor, root / path.relative_to("/"))
    return root


def place(paths: Iterable[Path]) -> Path:
    """A folder to mount the new root on, which contains none of the paths."""
    for place in map(Path, _PLACES):
        if place.is_dir() and not any(path.is_relative_to(place) for path in paths):
            return place
    raise OSError(f"all of {', '.join(_PLACES)} are missing or in use")


def _clone(view: View, user_namespace: int) -> list[tuple[Path, int]]:
    """Copies of all mounts of the view, in the order in which they are attached."""
    fixed = kernel.READ_ONLY | kernel.NO_SETUID | kernel.NO_DEVICES
    found = [(Path("/usr"), kernel.clone_mount(Path("/usr"), fixed, recursive=True))]
    for path in view.writable:
        found.append((path, kernel.clone_mount(path, kernel.NO_DEVICES, user_namespace)))
    if view.home is not None:
        found.append((_HOME, kernel.clone_mount(view.home, kernel.NO_DEVICES, user_namespace)))
    for path in view.readable:
        inside = any(path.is_relative_to(folder) for folder in view.writable)
        found.append((path, kernel.clone_mount(path, fixed, user_namespace if inside else None, recursive=not inside)))
    return sorted(found, key=lambda item: len(item[0].parts))  # a folder comes before what is mounted in it


def _fill(root: Path, resolv_conf: str) -> None:
    """Make the folders and files of the root that are not mounts."""
    for name in (*_FOLDERS, *_PACKAGE_DATABASES):
        (root / name).mkdir(parents=True)
    for name in _PUBLIC_FOLDERS:
        (root / name).mkdir()
        (root / name).chmod(0o1777)
    for name in _LINKS:
        if Path("/", name).is_symlink():
            (root / name).symlink_to(Path("/", name).readlink())
    for name in _ETC:
        _copy(Path("/etc", name), root / "etc" / name)
    (root / "etc/mtab").symlink_to("/proc/self/mounts")
    (root / "etc/resolv.conf").write_text(resolv_conf)


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, without what only some users of the host may read."""
    if not os.path.lexists(source) or not _is_public(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=_private_names)
    else:
        shutil.copy2(source, target)


def _private_names(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not _is_public(Path(folder, name))]


def _is_public(path: Path) -> bool:
    """Whether all users of the host may read a file, and it is no pipe, socket or device."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return True
    return bool(mode & stat.S_IROTH) and (stat.S_ISDIR(mode) or stat.S_ISREG(mode))


def make_devices(folder: Path) -> None:
    """Make the harmless devices in an empty folder. Others that a program could see are those of the host."""
    mask = os.umask(0)
    for name, numbers in _DEVICES.items():
        os.mknod(folder / name, stat.S_IFCHR | 0o666, os.makedev(*numbers))
    os.umask(mask)
    for name, to in _DEVICE_LINKS.items():
        (folder / name).symlink_to(to)
    (folder / "pts").mkdir()
    (folder / "shm").mkdir()
    (folder / "shm").chmod(0o1777)


def give_away(folder: Path, owner: int) -> None:
    """Make the box the owner of a tree in memory. Owners other than root become those of the box, too."""
    for place, folders, files in os.walk(folder):
        for path in (Path(place), *(Path(place, name) for name in (*folders, *files))):
            os.lchown(path, owner, owner)
