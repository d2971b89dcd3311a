"""Looking up files in an image root, whose symbolic links refer to paths inside it."""

from __future__ import annotations

import errno
import os
from pathlib import Path, PurePosixPath

from ims.errors import ImsError

_MAX_LINKS = 40


class UnreadableError(ImsError):
    """Something of an image cannot be read, so it is unknown."""


def resolve_inside(root: Path, name: str) -> Path | None:
    """The file that `name` refers to for a process whose root is `root`. Returns None if there is no such file.

    As in chroot(2), absolute links and `..` never lead out of `root`.
    """
    try:
        return follow_links(root, name, strict=True)
    except OSError:  # no such file, a loop, or a name that no file can have
        return None


def follow_links(root: Path, name: str, *, strict: bool = False) -> Path:
    """Like `Path.resolve`, for a process whose root is `root`: the path need not exist unless `strict` is true.

    Raises OSError if the links form a loop and, with `strict`, if there is no such file.
    """
    pending, found, links = list(reversed(PurePosixPath(name).parts)), root, 0
    while pending:
        part = pending.pop()
        if part == "/":
            found = root
        elif strict and not found.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        elif part == "..":
            found = found if found == root else found.parent
        elif (found / part).is_symlink():
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
            pending.extend(reversed(PurePosixPath((found / part).readlink()).parts))
        else:
            found = found / part
    if strict and not found.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return found


def read_inside(root: Path, name: str, limit: int) -> str | None:
    """The first `limit` bytes of the regular file that `name` refers to inside `root`, decoded as text.

    Returns None if there is no such file.
    """
    path = resolve_inside(root, name)
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        return file.read(limit).decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def printable(name: str) -> str:
    """A file name as one line of text, whatever bytes it consists of."""
    text = os.fsencode(name).decode(errors="backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode()
