"""Finds the bytes that two similar files share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ims.storage.delta import MAX_RANGES, Range

MAX_BYTES = 64 * 1024**2
"""Longer parts of files are not compared."""
_BLOCK = 4096
_WINDOW = 1 * 1024**2
"""How much may be inserted between two blocks that the files share."""
_FIRST_SEARCHES = 5
"""How many blocks are looked for in the whole file, until one is found."""
_MAX_SEARCHES = 200
"""Bounds the time for files that share little: a search takes a millisecond, or 20 in hostile content."""


def matching_ranges(new: Path, old: Path, new_start: int = 0, old_start: int = 0) -> list[Range]:
    """Returns what two files share from the given bytes on, in the same order; not all of it, but most.

    `offset` and `source_offset` are those in the files.
    """
    if max(new.stat().st_size - new_start, old.stat().st_size - old_start) > MAX_BYTES:
        return []
    found = list(_matches(_rest(new, new_start), _rest(old, old_start)))
    largest = sorted(found, key=lambda item: item.length)[-MAX_RANGES:]
    return [
        Range(offset=new_start + item.offset, length=item.length, source_offset=old_start + item.source_offset)
        for item in sorted(largest, key=lambda item: item.offset)
    ]


def _rest(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(MAX_BYTES)


def _matches(new: bytes, old: bytes) -> Iterator[Range]:
    """Yields ranges in order. Each block of the old file is looked for behind the one before."""
    end = length = searches = 0  # `length` bytes before `end` are those of the old file before `start`
    for start in range(0, len(old) - _BLOCK + 1, _BLOCK):
        block = old[start : start + _BLOCK]
        if new.startswith(block, end):
            end, length = end + _BLOCK, length + _BLOCK
            continue
        if length:
            yield Range(offset=end - length, length=length, source_offset=start - length)
            length = 0
        searches += 1
        if searches > _MAX_SEARCHES:
            return
        window = len(new) if end == 0 and searches <= _FIRST_SEARCHES else end + _WINDOW
        if (place := new.find(block, end, window)) >= 0:
            end, length = place + _BLOCK, _BLOCK
    if length:
        yield Range(offset=end - length, length=length, source_offset=len(old) // _BLOCK * _BLOCK - length)
