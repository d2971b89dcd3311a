"""Looking things up in an image root, whose symbolic links mean paths inside it."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

_MAX_LINKS = 40


def resolve_inside(root: Path, name: str) -> Path | None:
    """The file that `name` means inside `root`, as a process with that root would see it; None if there is none.

    A link to an absolute path or up beyond the root stays inside, as in chroot(2).
    """
    try:
        return _resolve(root, name)
    except OSError:  # a name that no file can have
        return None


def _resolve(root: Path, name: str) -> Path | None:
    pending, found, links = list(reversed(PurePosixPath(name).parts)), root, 0
    while pending:
        part = pending.pop()
        if part == "/":
            found = root
        elif not found.is_dir():
            return None
        elif part == "..":
            found = found if found == root else found.parent
        elif (found / part).is_symlink():
            links += 1
            if links > _MAX_LINKS:
                return None
            pending.extend(reversed(PurePosixPath((found / part).readlink()).parts))
        else:
            found = found / part
    return found if found.exists() else None


def read_inside(root: Path, name: str, limit: int) -> str | None:
    """The first `limit` bytes, as text, of the regular file that `name` means inside `root`; None if there is none."""
    path = resolve_inside(root, name)
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        return file.read(limit).decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def printable(name: str) -> str:
    """A file's name as one line of text, whatever its bytes are."""
    text = os.fsencode(name).decode(errors="backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode()
