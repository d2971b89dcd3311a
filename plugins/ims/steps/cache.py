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
from ims.workspace import Workspace

IMAGES, ROOTS = "images", "roots"


def folder(kind: str) -> Path:
    """Where those of a kind are."""
    return settings().home / "cache" / kind


def claim(path: Path, kind: str, workspace: Workspace) -> bool:
    """Keep a file, which may have to be made yet, until the workspace is closed; returns whether it is there.

    Of each kind a workspace claims one.
    """
    link = workspace.claim(kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked():
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        if path.exists():
            os.utime(path)  # tells the clean-up when it was used last
            return True
    return False


def unclaim(kind: str, workspace: Workspace) -> None:
    """Claim none of a kind any more."""
    workspace.claim(kind).unlink(missing_ok=True)


def claimed_by(kind: str, workspace: Workspace) -> Path | None:
    """What a workspace claims of a kind."""
    link = workspace.claim(kind)
    return link.readlink() if link.is_symlink() else None


def claimed() -> set[Path]:
    """What all workspaces claim."""
    workspaces = map(Workspace, settings().workspaces.glob("*/"))
    return {link.readlink() for workspace in workspaces for link in workspace.claims() if link.is_symlink()}


@contextmanager
def locked() -> Iterator[None]:
    """Nobody claims meanwhile."""
    lock = settings().home / "cache" / "claims.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
