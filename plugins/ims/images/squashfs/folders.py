"""The names in a folder."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ims.images.squashfs.codecs import BLOCK
from ims.images.squashfs.superblock import SpliceError

_HEADER = struct.Struct("<III")
_ENTRY = struct.Struct("<HhHH")
_MAX_ENTRIES = 256
"""How many names follow a header."""
_MAX_DISTANCE = 32767
"""How far the number of a file may be from that in its header."""
_INDEXED = BLOCK - 1024
"""After this many bytes of names, the index of a folder gets an entry. They must be less than a block."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a folder: the place and the number of its inode, and the kind of file."""

    place: int
    number: int
    kind: int


def read_names(listing: bytes) -> Iterator[tuple[bytes, Entry]]:
    """The names of a listing, which are sorted. Raises SpliceError."""
    position, last = 0, b""
    try:
        while position < len(listing):
            count, block, base = _HEADER.unpack_from(listing, position)
            position += _HEADER.size
            if count >= _MAX_ENTRIES:
                raise SpliceError("a listing has an invalid header")
            for _ in range(count + 1):
                offset, distance, kind, length = _ENTRY.unpack_from(listing, position)
                position += _ENTRY.size
                name = listing[position : position + length + 1]
                position += length + 1
                if name <= last or len(name) != length + 1 or not _is_valid(name):
                    raise SpliceError(f"a folder has the invalid name {name[:255]!r}")
                last = name
                yield name, Entry(block << 16 | offset, base + distance, kind)
    except struct.error:
        raise SpliceError("a listing is truncated") from None


def _is_valid(name: bytes) -> bool:
    return len(name) <= 255 and b"/" not in name and b"\0" not in name and name not in (b".", b"..")


def write_names(entries: list[tuple[bytes, Entry]]) -> tuple[bytes, list[tuple[int, bytes]]]:
    """A listing of names, which must be sorted, and its index: some names with the positions of their headers."""
    written, index, indexed, position = bytearray(), list[tuple[int, bytes]](), 0, 0
    while position < len(entries):
        start, (name, first) = len(written), entries[position]
        if start and start - indexed >= _INDEXED:
            index.append((start, name))
            indexed = start
        group = _group(entries, position, indexed + _INDEXED - start)
        written += _HEADER.pack(len(group) - 1, first.place >> 16, first.number)
        for name, entry in group:
            written += _ENTRY.pack(entry.place & 0xFFFF, entry.number - first.number, entry.kind, len(name) - 1) + name
        position += len(group)
    return bytes(written), index


def _group(entries: list[tuple[bytes, Entry]], position: int, room: int) -> list[tuple[bytes, Entry]]:
    """The names from a position on that fit one header and `room` bytes; at least one."""
    first, size = entries[position][1], 0
    end = position
    while end < len(entries) and end - position < _MAX_ENTRIES:
        name, entry = entries[end]
        size += _ENTRY.size + len(name)
        is_far = abs(entry.number - first.number) > _MAX_DISTANCE or entry.place >> 16 != first.place >> 16
        if is_far or (end > position and size > room):
            break
        end += 1
    return entries[position:end]
