"""The caches of this machine. Together they have a size limit: what was used longest ago is removed first.

While new jobs wait for space on the disk of the caches, as much as the disk lacks is removed, too.

An entry that is in use is never removed: a build locks the folders that it uses, a workspace claims its files.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ims import cache
from ims.cleaning import Finding
from ims.removal import remove as remove_tree
from ims.settings import settings

log = logging.getLogger(__name__)

_MESSAGE = 500
"""How many characters of a program's message a log has."""


@dataclass(frozen=True)
class Entry:
    """A folder or a file of a cache. `lock` is None if builds do not lock it."""

    path: Path
    size: int
    last_used: float
    lock: Path | None = None


def excess(limit: int, lacking: int = 0) -> list[Finding]:
    """Returns the entries to remove.

    Afterwards, all caches together have at most `limit` bytes, and their disk has `lacking` more free bytes than now.
    """
    found = sorted(entries(), key=lambda entry: entry.last_used)
    surplus = max(sum(entry.size for entry in found) - limit, lacking)
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
        yield Entry(folder, size_of(folder), last_modified(folder, lock), lock)
    for path in (*cache.folder(cache.IMAGES).glob("*"), *cache.folder(cache.READINGS).glob("*")):
        if path.suffix != ".fetched":
            yield Entry(path, size_of(path), last_modified(path))


def is_in_use(entry: Entry) -> bool:
    """Whether a build or another job uses the entry now."""
    with _reserved(entry) as is_free:
        return not is_free


def remove(entry: Entry) -> bool:
    """Remove the entry; returns False if it is in use."""
    with _reserved(entry) as is_free:
        if is_free:
            remove_tree(entry.path)
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
    """The disk space that a file or folder takes, in bytes. What cannot be read counts as 0 and is logged.

    The program du, unlike pathlib, reads trees of any depth.
    """
    command = ["du", "--summarize", "--block-size=1", "--one-file-system", "--", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0 and path.exists():
        log.warning("the size of %s is not complete: %s", path, done.stderr.strip()[:_MESSAGE])
    size = done.stdout.partition("\t")[0]
    return int(size) if size.isdecimal() else 0


def last_modified(*paths: Path) -> float:
    """When the last of these files and folders was modified; 0 if none exists. A job may remove them meanwhile."""
    times = [0.0]
    for path in paths:
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)


def _name(entry: Entry) -> str:
    return str(entry.path.relative_to(settings().home / "cache"))
