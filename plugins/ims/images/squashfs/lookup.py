"""Lookup tables: entries of equal size, in metadata blocks that an index finds."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from ims.images.squashfs.codecs import BLOCK, Codec
from ims.images.squashfs.metadata import Table
from ims.images.squashfs.superblock import Reader, SpliceError

Values = tuple[int, ...]


class LookupTable:
    """A table of `count` entries, whose index begins at `index_start`. The blocks end there, or at `end`.

    Every method may raise SpliceError.
    """

    def __init__(
        self, reader: Reader, codec: Codec, entry: struct.Struct, count: int, index_start: int, end: int | None = None
    ) -> None:
        self._codec, self._entry, self.count = codec, entry, count
        self._per_block = BLOCK // entry.size
        blocks = -(-count // self._per_block)
        end = index_start if end is None else end
        starts = struct.unpack(f"<{blocks}Q", reader.read(index_start, 8 * blocks))
        self.start, self.end = (starts[0] if starts else end), index_start + 8 * blocks
        if not all(before < after for before, after in pairwise((*starts, end))):
            raise SpliceError("the index of a table is damaged")
        if end - self.start > blocks * (BLOCK + 2):
            raise SpliceError("the index of a table does not begin at its blocks")
        self._table = Table(reader.read(self.start, end - self.start), codec)
        if self._table.starts != [start - self.start for start in starts]:
            raise SpliceError("the index of a table does not fit its blocks")

    def entries(self) -> Iterator[Values]:
        """All entries."""
        for number in range(len(self._table.starts)):
            yield from self._entries_of(number)

    def continued(self, added: Sequence[Values], changed: Mapping[int, Values], at: int) -> tuple[bytes, bytes]:
        """The table with more entries and with other values for the numbers in `changed`.

        Returns the blocks as they are stored at the position `at`, and their index. Blocks without changes stay as
        they are.
        """
        touched = {number // self._per_block for number in changed}
        complete = self.count // self._per_block
        blocks = [
            self._pack(self._updated(number, changed)) if number in touched else self._table.raw_block(number)
            for number in range(complete)
        ]
        rest = [*(self._updated(complete, changed) if self.count % self._per_block else ()), *added]
        starts = range(0, len(rest), self._per_block)
        blocks += [self._pack(rest[start : start + self._per_block]) for start in starts]
        return b"".join(blocks), _index(blocks, at)

    def _entries_of(self, number: int) -> list[Values]:
        block = self._table.block(number)
        expected = min(BLOCK, self.count * self._entry.size - number * BLOCK)
        if len(block) != expected:
            raise SpliceError(f"a block of a table has {len(block)} bytes instead of {expected}")
        return list(self._entry.iter_unpack(block))

    def _updated(self, number: int, changed: Mapping[int, Values]) -> list[Values]:
        first = number * self._per_block
        return [changed.get(first + place, entry) for place, entry in enumerate(self._entries_of(number))]

    def _pack(self, entries: Sequence[Values]) -> bytes:
        return self._codec.pack(b"".join(self._entry.pack(*entry) for entry in entries))


def _index(blocks: Sequence[bytes], at: int) -> bytes:
    starts = list[int]()
    for block in blocks:
        starts.append(at)
        at += len(block)
    return struct.pack(f"<{len(starts)}Q", *starts)
