"""Large files that outlive a job, kept for the next: root file systems that were fetched, roots that have packages.

A job claims the one that it uses, and nothing that a workspace claims is removed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ims.settings import settings

IMAGES, ROOTS = "images", "roots"


def folder(kind: str) -> Path:
    """Where those of a kind are."""
    return settings().home / "cache" / kind


def claim(path: Path, kind: str, workspace: Path) -> bool:
    """Keep a file, which may have to be made yet, until the workspace is closed; returns whether it is there.

    Of each kind a workspace claims one.
    """
    link = _link(kind, workspace)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked():
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        if path.exists():
            os.utime(path)  # tells the clean-up when it was used last
            return True
    return False


def unclaim(kind: str, workspace: Path) -> None:
    """Claim none of a kind any more."""
    _link(kind, workspace).unlink(missing_ok=True)


def claimed_by(kind: str, workspace: Path) -> Path | None:
    """What a workspace claims of a kind."""
    link = _link(kind, workspace)
    return link.readlink() if link.is_symlink() else None


def claimed() -> set[Path]:
    """What all workspaces claim."""
    return {link.readlink() for link in settings().workspaces.glob("*/*.claim") if link.is_symlink()}


@contextmanager
def locked() -> Iterator[None]:
    """Nobody claims meanwhile."""
    lock = settings().home / "cache" / "claims.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _link(kind: str, workspace: Path) -> Path:
    return workspace / f"{kind}.claim"
