"""The superblock of a squashfs: the first 96 bytes, which say where all tables are."""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass
from typing import Protocol

from ims.errors import InputError

SIZE = 96
NO_TABLE = 0xFFFFFFFFFFFFFFFF
NO_XATTRS = 0x200
HAS_OPTIONS = 0x400
MAX_METADATA = 256 * 1024**2
"""Bytes of all compressed tables, which are kept in memory. Five million files need about half of that."""
MAX_INODES = 4_000_000
_MAGIC = 0x73717368
_VERSION = (4, 0)
_LAYOUT = struct.Struct("<IIIIIHHHHHHQQQQQQQQ")
_UNKNOWN_FLAGS = 0xF004
"""The other flags say how mksquashfs packed: what is not compressed, and which files are in fragments."""


class SpliceError(InputError):
    """A squashfs is damaged, or of a kind that cannot be spliced."""


class Reader(Protocol):
    """A squashfs as a range of bytes."""

    @property
    def size(self) -> int:
        """The number of bytes."""

    def read(self, start: int, size: int) -> bytes:
        """Returns exactly `size` bytes from `start` on. Raises SpliceError if there are fewer."""


@dataclass(frozen=True)
class Superblock:
    """The fields in the order in which they are stored."""

    magic: int
    inodes: int
    time: int
    block_size: int
    fragments: int
    compressor: int
    block_log: int
    flags: int
    ids: int
    major: int
    minor: int
    root: int
    bytes_used: int
    id_start: int
    xattr_start: int
    inode_start: int
    folder_start: int
    fragment_start: int
    export_start: int

    def pack(self) -> bytes:
        """The bytes of the superblock."""
        return _LAYOUT.pack(*astuple(self))


def read_superblock(reader: Reader) -> Superblock:
    """Reads and checks a superblock. Raises SpliceError."""
    found = Superblock(*_LAYOUT.unpack(reader.read(0, SIZE)))
    if found.magic != _MAGIC or (found.major, found.minor) != _VERSION:
        raise SpliceError("it is not a squashfs of version 4.0")
    if found.flags & _UNKNOWN_FLAGS:
        raise SpliceError(f"it has the unknown flags {found.flags & _UNKNOWN_FLAGS:#x}")
    _check_counts(found)
    _check_order(found, reader.size)
    return found


def _check_counts(block: Superblock) -> None:
    if not 12 <= block.block_log <= 20 or block.block_size != 1 << block.block_log:
        raise SpliceError(f"its block size is invalid: {block.block_size}")
    if not 1 <= block.inodes <= MAX_INODES:
        raise SpliceError(f"it says that it has {block.inodes} files, not 1 to {MAX_INODES}")
    if block.fragments > block.inodes or not block.ids:
        raise SpliceError(f"it says that it has {block.fragments} fragments and {block.ids} owners")


def _check_order(block: Superblock, size: int) -> None:
    """Data, inodes, folders, fragments, export table, owners, attributes: the order in which mksquashfs writes."""
    starts = [SIZE, block.inode_start, block.folder_start]
    starts += [block.fragment_start] if block.fragments else []
    starts += [block.export_start] if block.export_start != NO_TABLE else []
    starts += [block.id_start]
    starts += [block.xattr_start] if block.xattr_start != NO_TABLE else []
    starts.append(block.bytes_used)
    if starts != sorted(starts) or block.bytes_used > size:
        raise SpliceError(f"its tables are not where they belong, or it is truncated ({size} bytes)")
    if block.bytes_used - block.inode_start > MAX_METADATA:
        raise SpliceError(f"its tables have more than {MAX_METADATA} bytes")
