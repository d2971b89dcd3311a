"""Reads the folders of an image root without recursion: programs of the image can nest them as deep as they like."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from ims.errors import InputError
from ims.images.root import printable

MAX_PATH = 4000
"""Bytes of a path, including that of the workspace. The kernel accepts fewer than 4096, and so does mksquashfs."""
VOLATILE = frozenset({"dev", "proc", "run", "sys", "tmp"})
"""The folders whose content exists only while a system runs. It is not part of an image."""
_SHOWN = 100


def names(folder: Path) -> list[str]:
    """The names in a folder, sorted. Raises InputError if the path of one is too long."""
    found = sorted(os.listdir(folder))  # noqa: PTH208  (creates no path objects)
    longest = max((len(os.fsencode(name)) for name in found), default=-1)
    if (size := len(os.fsencode(folder)) + 1 + longest) > MAX_PATH:
        raise InputError(
            f"the image has a path of {size} bytes, more than {MAX_PATH}: …{printable(str(folder))[-_SHOWN:]}",
            "Remove it in a script of the recipe, or in the image that is customized",
        )
    return found


def walk(root: Path, excluded: Collection[str] = (), *, volatile: bool = True) -> Iterator[Path]:
    """Everything below a folder except the top-level files in `excluded`.

    The files of a folder are sorted, and the content of a subfolder directly follows it. Without `volatile`, the
    content of volatile folders is left out. Raises InputError if a path is too long.
    """
    pending = [path for path in _last_first(root) if path.name not in excluded]
    while pending:
        path = pending.pop()
        yield path
        is_read = volatile or path.parent != root or path.name not in VOLATILE
        if is_read and not path.is_symlink() and path.is_dir():
            pending.extend(_last_first(path))


def _last_first(folder: Path) -> list[Path]:
    """The files of a folder in reverse order, because `walk` takes them from the end of its list."""
    return [folder / name for name in sorted(names(folder), key=printable, reverse=True)]
