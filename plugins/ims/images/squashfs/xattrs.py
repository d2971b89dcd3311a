"""Extended attributes: sets of names and values, which inodes refer to by number."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from ims.images.squashfs.codecs import Codec
from ims.images.squashfs.lookup import LookupTable
from ims.images.squashfs.metadata import Cursor, Table, TableWriter
from ims.images.squashfs.superblock import NO_TABLE, Reader, SpliceError, Superblock

Set = tuple[tuple[bytes, bytes], ...]
"""Names with their prefixes, and values."""

_PREFIXES = (b"user.", b"trusted.", b"security.")
_HEADER = struct.Struct("<QII")
_SET = struct.Struct("<QII")
_NAME = struct.Struct("<HH")
_LENGTH = struct.Struct("<I")
_ELSEWHERE = 0x100
"""The bit of the type of an attribute that says that its value is that of another attribute."""
_MAX_VALUE = 65536
_MAX_NAMES = 1000
_MAX_BYTES = 256 * 1024**2
"""Bytes of all attributes together."""


class Xattrs:
    """The attributes of a squashfs. Every method may raise SpliceError."""

    def __init__(self, reader: Reader, codec: Codec, block: Superblock) -> None:
        self._codec, self.start, self.count = codec, block.bytes_used, 0
        header, index = block.bytes_used, block.bytes_used
        if block.xattr_start != NO_TABLE:
            header, index = block.xattr_start, block.xattr_start + _HEADER.size
            self.start, self.count, _ = _HEADER.unpack(reader.read(header, _HEADER.size))
            if not 0 < self.count <= block.inodes:
                raise SpliceError(f"it says that it has {self.count} sets of attributes")
        self._sets = LookupTable(reader, codec, _SET, self.count, index, header)
        if not block.id_start < self.start <= self._sets.start or self._sets.end != block.bytes_used:
            raise SpliceError("the tables of attributes are not where they belong")
        self._content = Table(reader.read(self.start, self._sets.start - self.start), codec)

    def sets(self) -> Iterator[Set]:
        """All sets, in the order of their numbers."""
        budget = _MAX_BYTES
        for place, count, _ in self._sets.entries():
            found = tuple(self._read(place, count))
            budget -= sum(len(name) + len(value) for name, value in found)
            if budget < 0:
                raise SpliceError(f"the attributes have more than {_MAX_BYTES} bytes")
            yield found

    def continued(self, added: Sequence[Set], at: int) -> tuple[bytes, int]:
        """The tables with more sets, as they are stored at a position, and the position of their header."""
        writer, entries = TableWriter(self._codec, self._content), list[tuple[int, int, int]]()
        for names in added:
            block, offset = writer.write(b"".join(_pack(name, value) for name, value in names))
            # Not the size on disk, but that of the whole names and of the values.
            entries.append((block << 16 | offset, len(names), sum(len(name) + 1 + len(value) for name, value in names)))
        content = writer.finish()
        blocks, index = self._sets.continued(entries, {}, at + len(content))
        header = _HEADER.pack(at, self.count + len(added), 0)
        return content + blocks + header + index, at + len(content) + len(blocks)

    def _read(self, place: int, count: int) -> Iterator[tuple[bytes, bytes]]:
        if count > _MAX_NAMES:
            raise SpliceError(f"a file has {count} attributes")
        cursor = Cursor(self._content, place >> 16, place & 0xFFFF)
        for _ in range(count):
            kind, length = _NAME.unpack(cursor.take(_NAME.size))
            name, value = cursor.take(length), _value(cursor)
            if kind & _ELSEWHERE:
                (other,) = struct.unpack("<Q", value) if len(value) == 8 else (0,)
                value = _value(Cursor(self._content, other >> 16, other & 0xFFFF))
            if kind & 0xFF >= len(_PREFIXES):
                raise SpliceError("an attribute has an unknown prefix")
            yield _PREFIXES[kind & 0xFF] + name, value


def _value(cursor: Cursor) -> bytes:
    (size,) = _LENGTH.unpack(cursor.take(_LENGTH.size))
    if size > _MAX_VALUE:
        raise SpliceError(f"an attribute has {size} bytes")
    return cursor.take(size)


def _pack(name: bytes, value: bytes) -> bytes:
    number = next(number for number, prefix in enumerate(_PREFIXES) if name.startswith(prefix))
    rest = name.removeprefix(_PREFIXES[number])
    return _NAME.pack(number, len(rest)) + rest + _LENGTH.pack(len(value)) + value
