"""Reads the package database of rpm in the format ndb, which SUSE uses and which Debian's rpm cannot read.

The file `Packages.db` has a header, slots that say where the packages are, and the packages themselves, each with a
checksum. rpm defines the layout in lib/backend/ndb/rpmpkg.c.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ims.images.root import UnreadableError

_PAGE, _BLOCK = 4096, 16
_MAX_PAGES = 4096
_HEADER = struct.Struct("<4sIII16x")
_SLOT = struct.Struct("<4sIII")
_HEAD = struct.Struct("<4sIII")
_TAIL = struct.Struct("<II4s")


class _Slot(NamedTuple):
    """Where a package is: its number, its first block and how many it has. An unused slot has the offset 0."""

    magic: bytes
    number: int
    offset: int
    blocks: int


def read_headers(path: Path) -> Iterator[tuple[int, bytes]]:
    """The number and the header of each package, as rpm's databases of all formats store them.

    Raises UnreadableError if the file is damaged, or of another version.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        slots = _slots(data)
        # Packages do not overlap: a small file cannot be unpacked to a large database.
        if sum(slot.blocks for slot in slots) * _BLOCK > len(data):
            raise _damaged("its packages overlap")
        for slot in slots:
            yield slot.number, _header(data, slot)


def _slots(data: mmap.mmap) -> list[_Slot]:
    """The slots that are in use."""
    if len(data) < _PAGE:
        raise _damaged("it is too short")
    magic, version, _generation, pages = _HEADER.unpack_from(data)
    if (magic, version) != (b"RpmP", 0):
        raise UnreadableError("the database is not of the format ndb, version 0")
    if not 0 < pages <= _MAX_PAGES or pages * _PAGE > len(data):
        raise _damaged(f"it cannot have {pages} pages of slots")
    slots = [_Slot(*fields) for fields in _SLOT.iter_unpack(data[_HEADER.size : pages * _PAGE])]
    if any(slot.magic != b"Slot" for slot in slots):
        raise _damaged("a slot is invalid")
    return [slot for slot in slots if slot.offset]


def _header(data: mmap.mmap, slot: _Slot) -> bytes:
    """The header of a package, whose checksum is verified."""
    start, end = slot.offset * _BLOCK, (slot.offset + slot.blocks) * _BLOCK
    if end > len(data) or end - start < _HEAD.size + _TAIL.size:
        raise _damaged(f"package {slot.number} is incomplete")
    magic, number, _generation, size = _HEAD.unpack_from(data, start)
    checksum, same_size, end_magic = _TAIL.unpack_from(data, end - _TAIL.size)
    is_valid = (magic, number, end_magic) == (b"BlbS", slot.number, b"BlbE")
    is_valid = is_valid and size == same_size <= end - start - _HEAD.size - _TAIL.size
    if not is_valid or zlib.adler32(data[start : end - _TAIL.size]) != checksum:
        raise _damaged(f"package {slot.number} has a wrong checksum")
    return data[start + _HEAD.size : start + _HEAD.size + size]


def _damaged(why: str) -> UnreadableError:
    return UnreadableError(f"the database of the format ndb is damaged: {why}")
