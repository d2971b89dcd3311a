"""A lock with which processes share a resource, or use it alone."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock(path: Path, *, alone: bool) -> Iterator[None]:
    """Wait for a lock that several processes share, or that one process holds alone.

    Each process first takes a second lock. A process that waits to be alone keeps it, so that no other overtakes it.
    """
    with path.open("w") as shared, path.with_suffix(".queue").open("w") as queue:
        fcntl.flock(queue, fcntl.LOCK_EX)
        fcntl.flock(shared, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(queue, fcntl.LOCK_UN)
        yield
