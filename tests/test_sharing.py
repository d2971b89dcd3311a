"""Locks between the processes of a test run."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from tests.sharing import lock


def try_lock(path: Path, kind: int) -> None:
    """Lock a file for a moment. Raises BlockingIOError if another process has a conflicting lock."""
    with path.open("w") as file:
        fcntl.flock(file, kind | fcntl.LOCK_NB)


def test_shared(tmp_path: Path) -> None:
    """Other processes can share the lock, but none can hold it alone."""
    path = tmp_path / "cluster.lock"
    with lock(path, alone=False), lock(path, alone=False), pytest.raises(BlockingIOError):
        try_lock(path, fcntl.LOCK_EX)
    try_lock(path, fcntl.LOCK_EX)


def test_alone(tmp_path: Path) -> None:
    """No other process can share the lock. Afterwards, others can wait for it."""
    path = tmp_path / "cluster.lock"
    with lock(path, alone=True):
        try_lock(path.with_suffix(".queue"), fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            try_lock(path, fcntl.LOCK_SH)
    try_lock(path, fcntl.LOCK_SH)
