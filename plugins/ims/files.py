"""Writing files atomically, so that a reader sees the old or the new content but never a part of it; their digests."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`, and rename it to `path` at the end, unless an error is raised."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    yield partial
    partial.replace(path)


def write_atomically(path: Path, text: str, mode: int | None = None) -> None:
    """Write `text` to `path` in one step, with the permissions `mode` if given."""
    with replacing(path) as partial:
        if mode is not None:
            partial.touch(mode=mode)
        partial.write_text(text)


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` in one step, readable only by its owner."""
    write_atomically(path, text, mode=0o600)


def is_plain(path: Path) -> bool:
    """Whether a path is a regular file, not a link, and the only name of this file."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def move_untrusted(source: Path, target: Path) -> None:
    """Move a file that a program in a sandbox made out of the reach of that program, which must have ended.

    Raises OSError if it is not a plain file, or has another name by which the program's successors could change it.
    """
    if not is_plain(source):
        raise OSError(f"{source.name} is not a plain file with one name")
    shutil.move(source, target)
    os.chown(target, 0, 0)
    target.chmod(0o644)  # a sandbox that unpacks it is another user


def file_digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
