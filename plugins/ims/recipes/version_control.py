"""Which files of a folder belong to version control and not to the recipe: its own data, and what git ignores."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from ims.errors import ConfigurationError, ImsError

FOLDERS = frozenset({".git", ".hg", ".svn", ".bzr"})
"""Their configuration may contain passwords, and they differ between two checkouts of the same commit."""
SECONDS = 60
# The checkout may belong to another user: programs that its configuration names do not run.
_GIT = ("git", *("-c", "core.fsmonitor=false"), *("-c", "core.hooksPath=/dev/null"), *("-c", "safe.directory=*"))


class _NoRepositoryError(ImsError):
    """There is a file or folder `.git`, but no repository."""


def is_own_data(name: PurePosixPath) -> bool:
    """Whether a path belongs to the data of version control. In a submodule, `.git` is a file."""
    return not FOLDERS.isdisjoint(name.parts)


def is_checkout(folder: Path) -> bool:
    """Whether a folder is part of a checkout of git."""
    place = folder.resolve()
    return any(os.path.lexists(parent / ".git") for parent in (place, *place.parents))


def ignored(folder: Path) -> frozenset[PurePosixPath]:
    """The files and folders that git ignores, relative to the folder.

    Empty if all of the folder is ignored, or if the repository is elsewhere, as in a copy of a worktree.
    Raises ConfigurationError if git is not installed, ImsError if it fails.
    """
    if not is_checkout(folder):
        return frozenset()
    if shutil.which(_GIT[0]) is None:
        raise ConfigurationError(f"{folder} is a checkout of git, but git is not installed", "Install git")
    try:
        is_ignored = _git(folder, "check-ignore", "--quiet", ".", accepted=(0, 1)).returncode == 0
    except _NoRepositoryError:
        return frozenset()
    if is_ignored:
        return frozenset()
    listing = _git(folder, "ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z")
    return frozenset(PurePosixPath(os.fsdecode(name)) for name in listing.stdout.split(b"\0") if name)


def _git(folder: Path, *arguments: str, accepted: Collection[int] = (0,)) -> subprocess.CompletedProcess[bytes]:
    command = [*_GIT, "-C", os.fspath(folder), *arguments]
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, check=False, timeout=SECONDS, env=environment)
    if b"not a git repository" in done.stderr:
        raise _NoRepositoryError(f"the repository of {folder} is missing")
    if done.returncode not in accepted:
        reason = done.stderr.decode(errors="replace").strip()
        raise ImsError(f"git cannot say what it ignores in {folder}: {reason}", "Correct that, or push a copy")
    return done
