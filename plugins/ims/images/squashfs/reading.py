"""Reads ranges of a squashfs in a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ims.images.squashfs.superblock import SpliceError


class FileReader:
    """A squashfs in an open file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read(self, start: int, size: int) -> bytes:
        """Returns exactly `size` bytes from `start` on. Raises SpliceError if there are fewer."""
        if not size:
            return b""
        if start + size > self.size:
            raise SpliceError(f"it is truncated: it has {self.size} bytes, and says that there are more")
        parts, end = list[bytes](), start + size
        while start < end and (data := os.pread(self._descriptor, end - start, start)):
            parts.append(data)
            start += len(data)
        return b"".join(parts)


@contextmanager
def open_reader(path: Path) -> Iterator[FileReader]:
    """Opens a squashfs."""
    with path.open("rb") as file:
        yield FileReader(file.fileno())
