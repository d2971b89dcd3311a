"""The caches of this machine: bounded, what was used last stays longest, and what is in use stays."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ims.cleaning import Finding
from ims.settings import settings
from ims.steps import cache
from ims.steps.locks import taken


@dataclass(frozen=True)
class Entry:
    """A part of a cache: a folder whose build locks it, or a file without a lock. Workspaces claim files."""

    path: Path
    size: int
    used: float
    lock: Path | None = None


def too_much(limit: int) -> list[Finding]:
    """What has to go until all caches together have at most `limit` bytes, used longest ago first."""
    found = sorted(entries(), key=lambda entry: entry.used)
    excess = sum(entry.size for entry in found) - limit
    going = []
    for entry in found:
        if excess <= 0:
            break
        if in_use(entry):
            continue
        going.append(Finding("caches", _name(entry), entry.size, partial(remove, entry)))
        excess -= entry.size
    return going


def entries() -> Iterator[Entry]:
    """All that is cached. What is being fetched belongs to its job, which removes it if it fails."""
    packages, roots, indexes = map(cache.folder, ("packages", cache.ROOTS, "indexes"))
    for folder in (*packages.glob("*/"), *roots.glob("*/"), *indexes.glob("*/")):
        lock = (indexes if folder.parent == indexes else packages) / f"{folder.name}.lock"
        used = max(path.stat().st_mtime for path in (folder, lock) if path.exists())
        yield Entry(folder, size_of(folder), used, lock)
    for path in cache.folder(cache.IMAGES).glob("*"):
        if path.suffix != ".fetched":
            yield Entry(path, path.stat().st_size, path.stat().st_mtime)


def in_use(entry: Entry) -> bool:
    """Whether a build or another job works with it now."""
    with held(entry) as free:
        return not free


def remove(entry: Entry) -> bool:
    """Remove it unless it is in use."""
    with held(entry) as free:
        if free and entry.lock is None:
            entry.path.unlink(missing_ok=True)
        elif free:
            shutil.rmtree(entry.path)
        return free


@contextmanager
def held(entry: Entry) -> Iterator[bool]:
    """Keep an entry from being taken into use; False if it is in use."""
    with cache.locked():
        if any(path.is_relative_to(entry.path) for path in cache.claimed()):
            yield False
        elif entry.lock is None:
            yield True
        else:
            entry.lock.parent.mkdir(parents=True, exist_ok=True)
            with taken(entry.lock, uses=False) as free:
                yield free


def size_of(path: Path) -> int:
    """Bytes of the disk that a file or folder takes."""
    found = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    return sum(_size(item) for item in found)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:  # somebody else is at work
        return 0


def _name(entry: Entry) -> str:
    return str(entry.path.relative_to(settings().home / "cache"))
