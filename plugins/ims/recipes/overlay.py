"""The overlay folder of a recipe: its files go into the image with the modes and the capabilities that they have.

Only root can set capabilities, and read files without permissions. If an ordinary user unpacks a recipe, the files are
readable and writable for their owner, and a file beside the overlay notes what the image gets.
"""

from __future__ import annotations

import json
import os
import stat
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ims.errors import InputError

OVERLAY = "root"
ATTRIBUTES = ".ims_overlay.json"
CAPABILITY = "security.capability"
"""The extended attribute that holds the capabilities of a program."""
CAPABILITY_HEADER = f"SCHILY.xattr.{CAPABILITY}"
"""The name of the attribute in the archives of GNU tar."""
MAX_CAPABILITY = 64
"""Bytes of the attribute. The kernel accepts 20 or 24."""
MAX_BYTES = 64 * 1024 * 1024
# The modes of folders that an archive may leave out although it has files in them.
_IMPLICIT_MODES = {"root/root": 0o700, "root/tmp": 0o1777, "root/var/tmp": 0o1777}


@dataclass(frozen=True)
class Attributes:
    """The mode of a file or folder in the image, and its capabilities."""

    mode: int
    capability: bytes = b""


def is_overlay(name: PurePosixPath) -> bool:
    """Whether a path of a recipe is a path of the image: below the folder, but not the folder itself."""
    return len(name.parts) > 1 and name.parts[0] == OVERLAY


def implicit_mode(name: PurePosixPath) -> int:
    """The mode of a folder for which the archive has no entry."""
    return _IMPLICIT_MODES.get(str(name), 0o755)


def capability_of(member: tarfile.TarInfo) -> bytes:
    """The capabilities of an entry of an archive. Raises ValueError if they are too long."""
    text = member.pax_headers.get(CAPABILITY_HEADER, "") if member.isreg() else ""
    data = text.encode(errors="surrogateescape")
    if len(data) > MAX_CAPABILITY:
        raise ValueError(f"its capabilities have {len(data)} bytes, more than {MAX_CAPABILITY}")
    return data


def write_attributes(folder: Path, attributes: Mapping[PurePosixPath, Attributes]) -> None:
    """Note the attributes of files of a recipe that the unpacked files do not have. Raises InputError if too large."""
    if not attributes:
        return
    found = {str(name): [item.mode, item.capability.hex()] for name, item in sorted(attributes.items())}
    text = json.dumps(found)
    if len(text) > MAX_BYTES:
        raise InputError(f"the modes of {len(found)} overlay files need more than {MAX_BYTES} bytes")
    (folder / ATTRIBUTES).write_text(text)


def apply_attributes(recipe: Path, folder: Path) -> None:
    """Give the files of `folder`, a copy of an unpacked recipe, the attributes that were noted for them.

    No link is followed. Raises InputError if the note or a file of it has been replaced, OSError without root's rights.
    """
    for name, wanted in _read(recipe / ATTRIBUTES).items():
        with _opened(folder, name) as descriptor:
            os.fchmod(descriptor, wanted.mode)
            if wanted.capability:
                os.setxattr(descriptor, CAPABILITY, wanted.capability)


def _read(path: Path) -> dict[PurePosixPath, Attributes]:
    """The noted attributes. A program in a sandbox may have replaced the file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    with open(descriptor, "rb") as file:  # noqa: PTH123  (a descriptor)
        data = file.read(MAX_BYTES + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    try:
        return {_name(name): _attributes(*values) for name, values in json.loads(data[:MAX_BYTES]).items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{ATTRIBUTES} of the recipe was replaced: it is not what the unpacking wrote") from None


def _name(text: str) -> PurePosixPath:
    name = PurePosixPath(text)
    if not is_overlay(name) or ".." in name.parts:
        raise ValueError(text)
    return name


def _attributes(mode: Any, capability: Any) -> Attributes:
    if not isinstance(mode, int) or mode != mode & 0o7777:
        raise ValueError(mode)
    return Attributes(mode, bytes.fromhex(capability))


@contextmanager
def _opened(folder: Path, name: PurePosixPath) -> Iterator[int]:
    """A descriptor of a file or folder below `folder`, reached without following a link."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    opened = [os.open(folder, flags | os.O_DIRECTORY)]
    try:
        for part in name.parent.parts:
            opened.append(os.open(part, flags | os.O_DIRECTORY, dir_fd=opened[-1]))
        opened.append(os.open(name.name, flags | os.O_NONBLOCK, dir_fd=opened[-1]))
        yield opened[-1]
    finally:
        for descriptor in opened:
            os.close(descriptor)
