"""Metadata blocks: tables of a squashfs are stored in compressed blocks of 8 KiB."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from ims.images.squashfs.codecs import BLOCK, HEADER, STORED, Codec
from ims.images.squashfs.superblock import SpliceError

_CACHED = 256
"""How many uncompressed blocks of a table are kept."""
_MAX_READ = 4 * 1024**3
"""Bytes that are read from a table. A hostile one lets files share their inodes and names, to be read for days."""


class Table:
    """The metadata blocks between two positions of a squashfs. A place in it is a block and an offset."""

    def __init__(self, raw: bytes, codec: Codec) -> None:
        self.raw = raw
        self.codec = codec
        self.starts = list(_block_starts(raw))
        self._numbers = {start: number for number, start in enumerate(self.starts)}
        self._cache = OrderedDict[int, bytes]()
        self._budget = _MAX_READ

    def raw_block(self, number: int) -> bytes:
        """The bytes of a block with its header."""
        end = self.starts[number + 1] if number + 1 < len(self.starts) else len(self.raw)
        return self.raw[self.starts[number] : end]

    def block(self, number: int) -> bytes:
        """The content of a block. Raises SpliceError."""
        found = self._cache.get(number)
        if found is None:
            self.spend(BLOCK)
            found = self._cache[number] = self.codec.unpack(self.raw_block(number))
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        return found

    def read(self, start: int, offset: int, size: int) -> bytes:
        """The `size` bytes at `offset` of the block that begins at `start`, and after it. Raises SpliceError."""
        return Cursor(self, start, offset).take(size)

    def read_at_most(self, start: int, offset: int, size: int) -> bytes:
        """The bytes that `read` returns, or fewer at the end of the table. Raises SpliceError."""
        found = self.block(self.number_of(start))[offset : offset + size]
        if len(found) == size:
            self.spend(size)
            return found
        return Cursor(self, start, offset).take_at_most(size)

    def spend(self, size: int) -> None:
        """Counts what is read. Raises SpliceError if it is too much."""
        self._budget -= size
        if self._budget < 0:
            raise SpliceError(f"more than {_MAX_READ} bytes of one of its tables would have to be read")

    def number_of(self, start: int) -> int:
        """The number of the block that begins at `start`. Raises SpliceError if there is none."""
        if (number := self._numbers.get(start)) is None:
            raise SpliceError(f"no metadata block begins at {start}")
        return number


class Cursor:
    """Reads a table from a place on."""

    def __init__(self, table: Table, start: int, offset: int) -> None:
        self._table, self._number, self._offset = table, table.number_of(start), offset

    def take(self, size: int) -> bytes:
        """The next bytes. Raises SpliceError if the table has fewer."""
        found = self.take_at_most(size)
        if len(found) < size:
            raise SpliceError("a table ends too early")
        return found

    def take_at_most(self, size: int) -> bytes:
        """The next bytes, or fewer at the end of the table. Raises SpliceError."""
        self._table.spend(size)
        parts = list[bytes]()
        while size > 0 and self._number < len(self._table.starts):
            block = self._table.block(self._number)
            parts.append(block[self._offset : self._offset + size])
            size -= len(parts[-1])
            self._offset += len(parts[-1])
            if self._offset >= len(block):
                self._number, self._offset = self._number + 1, self._offset - len(block)
        return b"".join(parts)


def _block_starts(raw: bytes) -> Iterator[int]:
    position = 0
    while position < len(raw):
        yield position
        if position + HEADER.size > len(raw):
            break
        size = HEADER.unpack_from(raw, position)[0] & ~STORED
        if not 0 < size <= BLOCK:
            raise SpliceError(f"a metadata block has {size} bytes")
        position += HEADER.size + size
    if position != len(raw):
        raise SpliceError("the last metadata block of a table is truncated")


class TableWriter:
    """Continues a table. All blocks but its last, which gets longer, stay as they are."""

    def __init__(self, codec: Codec, old: Table | None = None) -> None:
        self._codec = codec
        self._blocks, self._starts, self._size, self._rest = list[bytes](), list[int](), 0, b""
        if old is not None and old.starts:
            *self._starts, self._size = old.starts
            self._blocks = [old.raw[: self._size]]
            self._rest = old.block(len(old.starts) - 1)
            self._pack_full_blocks()

    def write(self, data: bytes) -> tuple[int, int]:
        """Appends data; returns the start of the block and the offset where they begin."""
        place = (self._size, len(self._rest))
        self._rest += data
        self._pack_full_blocks()
        return place

    @property
    def blocks(self) -> int:
        """How many blocks are complete."""
        return len(self._starts)

    def start_of(self, number: int) -> int:
        """Where a block begins. It may be the one that is not yet complete."""
        return self._starts[number] if number < len(self._starts) else self._size

    def finish(self) -> bytes:
        """The whole table. Nothing can be written afterwards."""
        if self._rest:
            self._pack(self._rest)
            self._rest = b""
        return b"".join(self._blocks)

    def _pack_full_blocks(self) -> None:
        full = len(self._rest) // BLOCK * BLOCK
        for start in range(0, full, BLOCK):
            self._pack(self._rest[start : start + BLOCK])
        self._rest = self._rest[full:]

    def _pack(self, data: bytes) -> None:
        block = self._codec.pack(data)
        self._starts.append(self._size)
        self._blocks.append(block)
        self._size += len(block)
