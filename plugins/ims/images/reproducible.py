"""What in an image root depends on the hour and the place of its build, and does not have to."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import stat
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

from ims.images.changes import FIRST, VOLATILE
from ims.images.overlay import extended_attributes
from ims.images.root import resolve_inside

log = logging.getLogger(__name__)

# What package managers write down of their own work, which the job's log has too, and caches that they make again.
NOTES = (
    ("var/log", "alternatives.log"),
    ("var/log", "bootstrap.log"),
    ("var/log", "dnf*.log"),
    ("var/log", "dpkg.log"),
    ("var/log", "hawkey.log"),
    ("var/log", "zypper.log"),
    ("var/log/apt", "*"),
    ("var/log/zypp", "history"),
    ("var/cache/apt", "*.bin"),
    ("var/cache/ldconfig", "aux-cache"),
)
DATABASES = ("usr/lib/sysimage/rpm/rpmdb.sqlite", "var/lib/rpm/rpmdb.sqlite")
DNF_HISTORY = ("usr/lib/sysimage/dnf/history.sqlite", "var/lib/dnf/history.sqlite")
AUTO_INSTALLED = "var/lib/zypp/AutoInstalled"
"""What zypper installed because something else needed it, under a line with the date."""
_GENERATED = re.compile(rb"\A(# AutoInstalled generated) [^\n]*")
_BESIDE = ("journal", "shm", "wal")


def settle(root: Path, since: float, moment: int, workspace: Path) -> None:
    """Leave in a root nothing of the time since `since`, when its build began: `moment` stands for all of it.

    `workspace` is the folder that the build was in: its path is of no use in an image.
    """
    for place, pattern in NOTES:
        folder = resolve_inside(root, place)
        for path in sorted(folder.glob(pattern)) if folder is not None and folder.is_dir() else ():
            if path.is_symlink() or path.is_file():
                path.unlink()
    for name in (*DATABASES, *DNF_HISTORY):
        found = resolve_inside(root, name)
        # SQLite follows links to the files beside its own.
        if found is not None and found.is_file() and not any(Path(f"{found}-{end}").is_symlink() for end in _BESIDE):
            _settle_database(found, moment if name in DNF_HISTORY else None, workspace)
    auto = resolve_inside(root, AUTO_INSTALLED)
    if auto is not None and auto.is_file():
        auto.write_bytes(_GENERATED.sub(rb"\1", auto.read_bytes(), count=1))
    lost = []
    for path in (root, *_files(root, VOLATILE)):
        if _drop_acls(path):
            lost.append(path)
        _limit_time(path, since, moment)
    if lost:
        log.warning(lost_acls(root, lost))


def _settle_database(path: Path, moment: int | None, workspace: Path) -> None:
    """Have SQLite write all to one file. In dnf's history set the times, too; what was installed why stays in it."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            if moment is not None:
                database.execute("UPDATE trans SET dt_begin = ?, dt_end = ?", (moment, moment))
                database.execute("UPDATE trans SET cmdline = replace(cmdline, ?, '')", (str(workspace),))
                database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        log.warning("%s of the image is left as it is: %s", path.name, error)


def files_with_acls(root: Path) -> Iterator[Path]:
    """The files of an image, those in its volatile folders apart, that have a POSIX ACL."""
    yield from (path for path in _files(root, VOLATILE) if _acls(path))


def _acls(path: Path) -> list[str]:
    return [name for name in extended_attributes(path) if name.startswith("system.posix_acl_")]


def _drop_acls(path: Path) -> bool:
    """Take off what a squashfs cannot hold, so that scripts find the same in a root that was kept in one."""
    found = _acls(path)
    for name in found:
        os.removexattr(path, name, follow_symlinks=False)
    return bool(found)


def lost_acls(root: Path, files: list[Path]) -> str:
    """A sentence on the files whose ACLs an image does not keep."""
    names = ", ".join(repr(f"/{path.relative_to(root)}") for path in files[:FIRST])
    return f"a squashfs holds no POSIX ACLs: {len(files)} files lose theirs: {names}"


def clamp_times(folder: Path, moment: int) -> None:
    """Make what is younger than `moment` as old as that: when a recipe was checked out or packed says nothing of it."""
    for path in (folder, *_files(folder)):
        _limit_time(path, moment, moment)


def _limit_time(path: Path, since: float, moment: int) -> None:
    """What a build wrote gets one time. What packages brought keeps theirs, which their managers compare."""
    status = path.lstat()
    if status.st_mtime >= since and not stat.S_ISSOCK(status.st_mode):
        os.utime(path, (moment, moment), follow_symlinks=False)


def _files(root: Path, left_out: Collection[str] = ()) -> Iterator[Path]:
    """All below a folder, but for the folders at its top that are `left_out`."""
    for place, folders, files in os.walk(root):
        if place == str(root):
            folders[:] = [name for name in folders if name not in left_out]
        folders.sort()
        yield from (Path(place, name) for name in sorted(folders + files))
