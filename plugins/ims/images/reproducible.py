"""Removes what differs between equal builds from an image root: times, logs and paths of the build."""

from __future__ import annotations

import logging
import math
import os
import re
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ims.images.attributes import extended_attributes
from ims.images.root import resolve_inside
from ims.images.tree import VOLATILE, walk

log = logging.getLogger(__name__)

# Logs of package managers, whose content is also in the log of the job, and caches that they can create again.
REMOVED = (
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
"""The packages that zypper installed because others require them, below a line with the date."""
MAX_AUTO_INSTALLED = 16 * 1024 * 1024
MAX_DATABASE = 1024**3
DATABASE_SECONDS = 120
"""How long SQLite may work on a database of the image."""
_SHOWN = 20
"""How many files a message names."""
_GENERATED = re.compile(rb"\A(# AutoInstalled generated) [^\n]*")
_SIDE_FILES = ("journal", "shm", "wal")


def normalize(root: Path, started: float, timestamp: int, workspace: Path) -> None:
    """Give all files that were modified since the build `started` the time `timestamp`, and remove other differences.

    `workspace` is the folder of the build, whose path is removed from dnf's history.
    """
    for place, pattern in REMOVED:
        folder = resolve_inside(root, place)
        for path in sorted(folder.glob(pattern)) if folder is not None and folder.is_dir() else ():
            if path.is_symlink() or path.is_file():
                path.unlink()
    for name in (*DATABASES, *DNF_HISTORY):
        found = resolve_inside(root, name)
        if found is not None and found.is_file() and _is_safe(found):
            _normalize_database(found, timestamp if name in DNF_HISTORY else None, workspace)
    auto = resolve_inside(root, AUTO_INSTALLED)
    if auto is not None and auto.is_file() and auto.stat().st_size <= MAX_AUTO_INSTALLED:
        auto.write_bytes(_GENERATED.sub(rb"\1", auto.read_bytes(), count=1))
    without_acls = []
    for path in (root, *walk(root, VOLATILE)):
        if _drop_acls(path):
            without_acls.append(path)
        _clamp_time(path, started, timestamp)
    if without_acls:
        log.warning(lost_acls(root, without_acls))


def _is_safe(database: Path) -> bool:
    """Whether SQLite may open a database: it is not huge, and no journal is a link, which SQLite would follow."""
    if any(Path(f"{database}-{suffix}").is_symlink() for suffix in _SIDE_FILES):
        return False
    return database.stat().st_size <= MAX_DATABASE


def _normalize_database(path: Path, timestamp: int | None, workspace: Path) -> None:
    """Merge SQLite's journal into the database. With a `timestamp`, also set the times in dnf's history to it."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            # A trigger of the image could compute forever.
            until = time.monotonic() + DATABASE_SECONDS
            database.set_progress_handler(lambda: time.monotonic() > until, 100_000)
            database.execute("PRAGMA trusted_schema = OFF")
            if timestamp is not None:
                database.execute("UPDATE trans SET dt_begin = ?, dt_end = ?", (timestamp, timestamp))
                database.execute("UPDATE trans SET cmdline = replace(cmdline, ?, '')", (str(workspace),))
                database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        log.warning("cannot normalize %s of the image: %s", path.name, error)


def files_with_acls(root: Path) -> Iterator[Path]:
    """The files of an image that have a POSIX ACL, except those in its volatile folders."""
    yield from (path for path in walk(root, VOLATILE) if _acls(path))


def _acls(path: Path) -> list[str]:
    return [name for name in extended_attributes(path) if name.startswith("system.posix_acl_")]


def _drop_acls(path: Path) -> bool:
    """Remove the ACLs of a file, which a squashfs cannot store, so that scripts find the same in any package root."""
    found = _acls(path)
    for name in found:
        os.removexattr(path, name, follow_symlinks=False)
    return bool(found)


def lost_acls(root: Path, files: list[Path]) -> str:
    """A message about files whose ACLs are lost."""
    names = ", ".join(repr(f"/{path.relative_to(root)}") for path in files[:_SHOWN])
    return f"a squashfs cannot store POSIX ACLs: {len(files)} files lose theirs: {names}"


def set_times(folder: Path, timestamp: int) -> None:
    """Give all files the same time. When a recipe was written, checked out or packed does not matter."""
    for path in (folder, *walk(folder)):
        _clamp_time(path, -math.inf, timestamp)


def _clamp_time(path: Path, since: float, timestamp: int) -> None:
    """Set the time of a file that was modified since `since`. Older files keep the times that their packages state."""
    status = path.lstat()
    if status.st_mtime >= since and not stat.S_ISSOCK(status.st_mode):
        os.utime(path, (timestamp, timestamp), follow_symlinks=False)
