"""Caches that outlive a job: packages, repository indexes, package roots, images, what recipes say.

A job claims the file that it uses. A claimed file is never removed; the claim ends with the workspace.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ims.settings import settings
from ims.workspace import Workspace

IMAGES, INDEXES, PACKAGES, READINGS, ROOTS = "images", "indexes", "packages", "readings", "roots"
"""The kinds of cached data. Each has a folder of its own."""


def folder(kind: str) -> Path:
    """The folder of a kind."""
    return settings().home / "cache" / kind


def claim(path: Path, kind: str, workspace: Workspace) -> bool:
    """Claim a file for a workspace, in place of the file of that kind that it claimed before.

    Returns whether the file exists. If it does not, the claim protects it as soon as it is created.
    """
    link = workspace.claim(kind)
    for folder in (path.parent, link.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with locked():
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        if path.exists():
            os.utime(path)  # the sweep removes the least recently used files first
            return True
    return False


def unclaim(kind: str, workspace: Workspace) -> None:
    """Give up the claim of a workspace on a file of a kind, if it has one."""
    workspace.claim(kind).unlink(missing_ok=True)


def claimed_by(kind: str, workspace: Workspace) -> Path | None:
    """The file of a kind that a workspace claims."""
    link = workspace.claim(kind)
    return link.readlink() if link.is_symlink() else None


def claimed() -> set[Path]:
    """The files that any workspace claims."""
    return {path for path, _ in _claims()}


def is_claimed_by_others(path: Path, workspace: Workspace) -> bool:
    """Whether another workspace than this one claims a file."""
    return any(found == path and other != workspace for found, other in _claims())


def _claims() -> Iterator[tuple[Path, Workspace]]:
    for folder in settings().workspaces.glob("*/"):
        workspace = Workspace(folder)
        for link in workspace.claims():
            with suppress(OSError):  # it is no link, or the workspace was just closed
                yield link.readlink(), workspace


@contextmanager
def locked() -> Iterator[None]:
    """Keep other processes from claiming files."""
    lock = settings().home / "cache" / "claims.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def try_lock(lock: Path, *, touch: bool = True) -> Iterator[bool]:
    """Lock a lock file unless another process has locked it; yields whether it is locked now.

    With `touch` the modification time of the lock file becomes the time of this use.
    """
    with lock.open("w" if touch else "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
