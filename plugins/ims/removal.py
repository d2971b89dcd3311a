"""Removing trees of files that untrusted programs made.

They may be deeper than Python's stack or than a path can be long, and their files may be immutable. Links are not
followed, and nothing outside of the tree is touched.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

# linux/fs.h. The numbers of the two requests are the same on all architectures that have 64 bits.
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
_PROTECTED = 0x10 | 0x20  # immutable, append-only
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ESCAPED = re.compile(r"\\([0-7]{3})")


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if it exists.

    Raises OSError if something cannot be removed, and without removing anything if a file system is mounted in it.
    """
    with suppress(FileNotFoundError):
        is_folder = stat.S_ISDIR(path.lstat().st_mode)
        if is_folder:
            _check_mounts(path)
            _empty(path)
        _forced(path.rmdir if is_folder else path.unlink, path)


def mounts_in(path: Path) -> list[str]:
    """The mount points at or below a path."""
    top = os.path.realpath(path)
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    points = [_ESCAPED.sub(lambda match: chr(int(match[1], 8)), line.split(" ")[4]) for line in lines]
    return [point for point in points if point == top or point.startswith(f"{top}/")]


def _check_mounts(path: Path) -> None:
    if mounted := mounts_in(path):
        raise OSError(errno.EBUSY, "a file system is mounted there, unmount it first", mounted[0])


def _empty(folder: Path) -> None:
    """Remove everything in a folder.

    Subfolders move to the top before their content is removed, so no path is long and two open folders are enough.
    """
    top = os.open(folder, _FOLDER)
    try:
        pending = _take_apart(top, top)
        while pending:
            name = pending.pop()
            current = os.open(name, _FOLDER, dir_fd=top)
            try:
                pending += _take_apart(current, top)
            finally:
                os.close(current)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)


def _take_apart(folder: int, top: int) -> list[str]:
    """Remove the files of a folder and move its subfolders to the folder `top`; returns their new names."""
    moved = []
    _unprotect(folder)
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        with suppress(FileNotFoundError):  # a process that was just killed may have removed it
            if is_folder:
                new = uuid4().hex
                _forced(partial(os.rename, name, new, src_dir_fd=folder, dst_dir_fd=top), name, folder)
                moved.append(new)
            else:
                _forced(partial(os.unlink, name, dir_fd=folder), name, folder)
    return moved


def _forced(change: Callable[[], None], name: str | Path, folder: int | None = None) -> None:
    """Change an entry of a folder, if need be after clearing the flags that protect it."""
    try:
        change()
    except PermissionError:
        # Opening a device could have an effect. Only files and folders have flags.
        if stat.S_IFMT(os.lstat(name, dir_fd=folder).st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
            raise
        descriptor = os.open(name, _FILE, dir_fd=folder)
        try:
            _unprotect(descriptor)
        finally:
            os.close(descriptor)
        change()


def _unprotect(descriptor: int) -> None:
    """Clear the flags immutable and append-only of a file or folder, if its file system knows flags."""
    with suppress(OSError):
        flags = array.array("L", [0])
        fcntl.ioctl(descriptor, _GET_FLAGS, flags)
        if flags[0] & _PROTECTED:
            flags[0] &= ~_PROTECTED
            fcntl.ioctl(descriptor, _SET_FLAGS, flags)
