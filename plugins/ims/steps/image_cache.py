"""Root file systems that were fetched, kept for the next job on the same image.

A job claims the one that it uses, and no clean-up removes what a workspace claims.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ims.settings import settings

CLAIM = "rootfs.claim"
LOCK = ".lock"


def folder() -> Path:
    """Where they are."""
    return settings().home / "cache" / "images"


def claim(rootfs: Path, workspace: Path) -> bool:
    """Keep `rootfs`, which may be fetched yet, until the workspace is closed; returns whether it is there."""
    link = workspace / CLAIM
    with locked():
        link.unlink(missing_ok=True)
        link.symlink_to(rootfs)
        if rootfs.exists():
            os.utime(rootfs)  # tells the clean-up when it was used last
            return True
    return False


def claimed() -> set[Path]:
    """What workspaces claim."""
    return {link.readlink() for link in settings().workspaces.glob(f"*/{CLAIM}") if link.is_symlink()}


@contextmanager
def locked() -> Iterator[None]:
    """Nobody claims meanwhile."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
