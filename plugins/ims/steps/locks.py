"""Folders that several jobs share, but not at the same time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def taken(lock: Path, *, uses: bool = True) -> Iterator[bool]:
    """Hold a lock file if nobody else does; tells whether. Its time stays where nothing `uses` what it locks."""
    with lock.open("w" if uses else "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
