"""Which changed files a script writes itself, and why it does not write the others."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ims.images.attributes import OVERLAY_PREFIX, extended_attributes
from ims.images.capture.accounts import ACCOUNTS
from ims.images.capture.owners import Owned
from ims.images.capture.script import LeftOut, Section, file_command
from ims.images.rpm import FOLDERS

MAX_FILE = 16 * 1024**2
MAX_TOTAL = 48 * 1024**2
"""Bytes of the content of all files. The script holds all of them."""
MAX_ENTRIES = 10_000
MAX_PATH = 1800
MAX_DEPTH = 90
"""Folders. Paths have less than what unpacking an archive accepts, see `ims.recipes.unpacking`."""

UNPRINTABLE = "its name has characters that cannot be printed"
MOUNTED = "scripts see another file in its place"
TOO_MANY = f"more than {MAX_ENTRIES} files: use a package"
_DATABASES = ("/var/lib/dpkg/", *(f"/{folder}/" for folder in FOLDERS), "/usr/lib/sysimage/")
_MADE = {
    **dict.fromkeys(_DATABASES, "the database of a package manager"),
    **dict.fromkeys(("/var/lib/apt/", "/var/lib/dnf/", "/var/lib/zypp/"), "data of a package manager"),
    **dict.fromkeys(("/var/cache/", "/etc/ld.so.cache", "/usr/share/info/dir"), "a cache, made from other files"),
    **dict.fromkeys(("/var/log/", "/var/tmp/"), "logs and temporary files"),  # noqa: S108  (of an image)
    **dict.fromkeys(("/boot/initrd", "/boot/initramfs"), "made from other files: add the command that makes it"),
    **dict.fromkeys(("/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-"), "a copy of the old accounts"),
    **dict.fromkeys(("/etc/subuid-", "/etc/subgid-"), "a copy of the old accounts"),
    **dict.fromkeys(("/etc/shadow", "/etc/gshadow"), "passwords are secrets; the script makes accounts without one"),
    "/etc/machine-id": "the id of a machine",
}
_BYTECODE = re.compile(r"(.*/__pycache__/).*")
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----")
_OF_THE_HOST = (OVERLAY_PREFIX, "security.selinux")
_USUAL_MODES = ("0644", "0755")
# The package manager needs these files before it installs packages.
_SOURCES = ("/etc/apt/", "/etc/zypp/", "/etc/yum.repos.d/", "/etc/dnf/", "/etc/pki/", "/usr/share/keyrings/")


@dataclass(frozen=True)
class Entry:
    """A file, a folder or a link that the script writes, or a file of a package whose attributes it sets.

    `is_owned` says whether a package brings it first.
    """

    path: str
    kind: Literal["file", "folder", "link", "attributes"]
    mode: str
    owner: str
    target: str = ""
    content: bytes = b""
    is_owned: bool = False

    @property
    def is_source(self) -> bool:
        """Whether it is configuration that the package manager needs to install packages."""
        return not self.is_owned and f"{self.path}/".startswith(_SOURCES)

    def add_to(self, section: Section) -> None:
        """Add the command that writes it."""
        if self.kind == "file":
            section.commands.append(file_command(self.path, self.mode, self.owner, self.content))
        elif self.kind == "link":
            section.add("link", self.path, self.target, self.owner)
        else:
            section.add(self.kind, self.path, self.mode, self.owner)


def made_by_programs(path: str) -> LeftOut | None:
    """Why a changed path is not part of a script, whatever is in it; None if it is."""
    if match := _BYTECODE.fullmatch(path):
        return LeftOut(match[1], _MADE["/var/cache/"])
    for prefix, reason in _MADE.items():
        is_below = path.startswith(prefix) if prefix.endswith("/") or prefix.startswith("/boot") else path == prefix
        if is_below:
            return LeftOut(prefix if prefix.endswith("/") else path, reason)
    return None


class Reader:
    """Reads changed files of an image, up to a total size."""

    def __init__(self, merged: Path, owned: Mapping[str, Owned], secrets: Collection[str], mounted: Collection[str]):
        self._merged, self._owned, self._secrets, self._mounted = merged, owned, secrets, mounted
        self._size = self._count = 0

    def read(self, path: str) -> Iterator[Entry | LeftOut]:
        """What the script does for a new or changed path. Nothing if a package installs it in this state."""
        if (made := made_by_programs(path)) is not None:
            yield made
        elif path in self._mounted:
            yield LeftOut(path, MOUNTED)
        elif path not in ACCOUNTS:
            for item in self._read(path):
                self._count += isinstance(item, Entry)
                yield item if self._count <= MAX_ENTRIES else LeftOut(path, TOO_MANY)

    def _read(self, path: str) -> Iterator[Entry | LeftOut]:
        file = self._merged / path.lstrip("/")
        try:
            status = file.lstat()
        except (OSError, ValueError):
            yield LeftOut(path, UNPRINTABLE)
            return
        if len(path.encode()) > MAX_PATH or path.count("/") > MAX_DEPTH:
            yield LeftOut(path, "its path is too long")
            return
        if (owned := self._owned.get(path)) is not None and _is_as_installed(file, status, owned):
            yield from _attributes(path, status, owned)
            return
        if any(not name.startswith(_OF_THE_HOST) for name in extended_attributes(file)):
            yield LeftOut(f"{path} (extended attributes)", "capabilities, ACLs and other attributes are not repeated")
        item = self._entry(path, file, status)
        yield replace(item, is_owned=owned is not None) if isinstance(item, Entry) else item

    def _entry(self, path: str, file: Path, status: os.stat_result) -> Entry | LeftOut:
        mode, owner = f"{stat.S_IMODE(status.st_mode):04o}", f"{status.st_uid}:{status.st_gid}"
        if stat.S_ISDIR(status.st_mode):
            return Entry(path, "folder", mode, owner)
        if stat.S_ISLNK(status.st_mode):
            return _link(path, file, mode, owner)
        if not stat.S_ISREG(status.st_mode):
            return LeftOut(path, "a device, a pipe or a socket")
        if path in self._secrets:
            return LeftOut(path, "holds a secret")
        self._size += status.st_size
        if status.st_size > MAX_FILE or self._size > MAX_TOTAL:
            self._size -= status.st_size
            limit = f"more than {MAX_FILE // 1024**2} MiB, or {MAX_TOTAL // 1024**2} MiB with others"
            return LeftOut(path, f"{limit}: put it into a package")
        content = file.read_bytes()
        if _PRIVATE_KEY.search(content):
            return LeftOut(path, "holds a private key")
        return Entry(path, "file", mode, owner, content=content)


def _link(path: str, file: Path, mode: str, owner: str) -> Entry | LeftOut:
    target = str(file.readlink())
    if not target.isprintable() or len(target.encode(errors="replace")) > MAX_PATH:
        return LeftOut(path, "its target is too long, or has characters that cannot be printed")
    return Entry(path, "link", mode, owner, target)


def _is_as_installed(file: Path, status: os.stat_result, owned: Owned) -> bool:
    if not stat.S_ISREG(status.st_mode):
        return not owned.digest
    algorithm = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}.get(len(owned.digest))
    if algorithm is None:
        return False
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, algorithm).hexdigest() == owned.digest


def _attributes(path: str, status: os.stat_result, owned: Owned) -> Iterator[Entry]:
    """Sets the attributes of a file of a package unless it has them anyway.

    dpkg does not know the modes of files, and administrators turn scripts in /etc off by their modes.
    """
    mode, owner = f"{stat.S_IMODE(status.st_mode):04o}", f"{status.st_uid}:{status.st_gid}"
    is_folder, is_configuration = stat.S_ISDIR(status.st_mode), path.startswith("/etc/")
    is_usual = mode == owned.mode if owned.mode else mode in _USUAL_MODES and (is_folder or not is_configuration)
    if not stat.S_ISLNK(status.st_mode) and not (is_usual and owner == "0:0"):
        yield Entry(path, "attributes", mode, owner, is_owned=True)
