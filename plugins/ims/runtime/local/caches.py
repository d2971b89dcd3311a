"""The caches of this machine. Together they have a size limit: what was used longest ago is removed first.

An entry that is in use is never removed: a build locks the folders that it uses, a workspace claims its files.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ims import cache
from ims.cleaning import Finding
from ims.settings import settings


@dataclass(frozen=True)
class Entry:
    """A folder or a file of a cache. `lock` is None if builds do not lock it."""

    path: Path
    size: int
    last_used: float
    lock: Path | None = None


def excess(limit: int) -> list[Finding]:
    """Returns the entries to remove so that all caches together have at most `limit` bytes."""
    found = sorted(entries(), key=lambda entry: entry.last_used)
    surplus = sum(entry.size for entry in found) - limit
    removable = []
    for entry in found:
        if surplus <= 0:
            break
        if is_in_use(entry):
            continue
        removable.append(Finding("caches", _name(entry), entry.size, partial(remove, entry)))
        surplus -= entry.size
    return removable


def entries() -> Iterator[Entry]:
    """Every entry of the caches. Half-fetched images are no entries: they belong to the job that fetches them."""
    packages, roots, indexes = map(cache.folder, ("packages", cache.ROOTS, "indexes"))
    for folder in (*packages.glob("*/"), *roots.glob("*/"), *indexes.glob("*/")):
        lock = (indexes if folder.parent == indexes else packages) / f"{folder.name}.lock"
        last_used = max(path.stat().st_mtime for path in (folder, lock) if path.exists())
        yield Entry(folder, size_of(folder), last_used, lock)
    for path in cache.folder(cache.IMAGES).glob("*"):
        if path.suffix != ".fetched":
            yield Entry(path, path.stat().st_size, path.stat().st_mtime)


def is_in_use(entry: Entry) -> bool:
    """Whether a build or another job uses the entry now."""
    with _reserved(entry) as is_free:
        return not is_free


def remove(entry: Entry) -> bool:
    """Remove the entry; returns False if it is in use."""
    with _reserved(entry) as is_free:
        if is_free and entry.lock is None:
            entry.path.unlink(missing_ok=True)
        elif is_free:
            shutil.rmtree(entry.path)
        return is_free


@contextmanager
def _reserved(entry: Entry) -> Iterator[bool]:
    """Prevent jobs from using an entry inside the context; yields False if one uses it already."""
    with cache.locked():
        if any(path.is_relative_to(entry.path) for path in cache.claimed()):
            yield False
        elif entry.lock is None:
            yield True
        else:
            entry.lock.parent.mkdir(parents=True, exist_ok=True)
            with cache.try_lock(entry.lock, touch=False) as is_free:
                yield is_free


def size_of(path: Path) -> int:
    """The disk space that a file or folder takes, in bytes."""
    found = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    return sum(_size(item) for item in found)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:  # a job has just removed it
        return 0


def _name(entry: Entry) -> str:
    return str(entry.path.relative_to(settings().home / "cache"))
