"""Ends what runs in a box if its job fills the disk, which other jobs, S3 and the database may need as well.

A job that takes no more space than it asked for goes on, so that nobody can end it by filling the disk. Several jobs
that asked for much can fill the disk together. In that case, every job ends that takes more than the default space.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ims.errors import PermanentError
from ims.settings import settings

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
_MEASURE_SECONDS = 60
_REST = 10
"""After a measurement, the watch rests this many times as long, unless the disk becomes fuller."""
_CRITICAL = 0.5
"""Below this part of the reserve, what a job asked for no longer counts."""
_FULLER = 0.1
"""A change of the free part of the reserve that ends a rest."""
_LARGEST_RESERVE = 20
"""The reserve is at most a twentieth of the disk."""
_BYTES_PER_FILE = 16384
"""Each file counts as at least this many bytes: ext4 has room for one file in as many."""
_LARGEST_WATERMARK = 10
"""The watermark is at most a tenth of the disk."""
_MIB = 1024**2
_GIB = 1024**3


class DiskFullError(PermanentError):
    """A job takes more space than it asked for, and its disk is almost full."""


def reserve(size: int) -> int:
    """How many bytes of a disk of `size` bytes jobs must leave free (IMS_DISK_RESERVE_MIB)."""
    return min(settings().disk_reserve_mib * _MIB, size // _LARGEST_RESERVE)


def available(folder: Path) -> int:
    """How many bytes jobs may still write to the disk of a folder."""
    usage = shutil.disk_usage(folder)
    return max(0, usage.free - reserve(usage.total))


def existing(folder: Path) -> Path:
    """The folder or, if it does not exist yet, the nearest one above it that does."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def shortage(folders: Sequence[Path]) -> str | None:
    """Which disk of these folders has so little space that new jobs must wait (IMS_DISK_WATERMARK_MIB), or None."""
    for folder in folders:
        free, needed = _watermark(folder)
        if free < needed:
            found = f"the disk of {folder} has {free // _MIB} MiB free"
            return f"{found}; new jobs wait until it has {needed // _MIB} MiB"
    return None


def lacking(folder: Path) -> int:
    """How many bytes the disk of a folder lacks until new jobs need not wait for it; 0 if they need not."""
    free, needed = _watermark(folder)
    return max(0, needed - free)


def _watermark(folder: Path) -> tuple[int, int]:
    """The free bytes of the disk of a folder, which may not exist yet, and how many new jobs require."""
    usage = shutil.disk_usage(existing(folder))
    return usage.free, min(settings().disk_watermark_mib * _MIB, usage.total // _LARGEST_WATERMARK)


@contextmanager
def limit(folders: Sequence[Path], space: int | None, end: Callable[[], None]) -> Iterator[None]:
    """Call `end` if the disk of the first folder is almost full, and the folders take more than `space` bytes.

    Raises DiskFullError after that, instead of the errors that it caused. Without `space`, there is no limit.
    """
    if space is None:
        yield
        return
    watch = _Watch(folders, space, end)
    thread = threading.Thread(target=watch.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.is_over.set()
        thread.join()
        # What ended by itself while the watch measured its space may have failed because of the disk.
        if watch.error:
            raise watch.error from None


class _Watch:
    """Looks at the disk until a job is over or must end."""

    def __init__(self, folders: Sequence[Path], space: int, end: Callable[[], None]) -> None:
        self.folders, self.space, self.end = folders, space, end
        self.is_over = threading.Event()
        self.error: DiskFullError | None = None

    def run(self) -> None:
        """Look at the disk. After a measurement, rest unless the disk becomes fuller.

        The last look comes when the job is over: it may have failed because of the disk.
        """
        rested, measured, is_over = 0.0, 1.0, False
        while not self.error and not is_over:
            is_over = self.is_over.wait(POLL_SECONDS)
            try:
                left = _left(self.folders[0])
                rests = not is_over and time.monotonic() < rested and left > measured - _FULLER
                if left >= 1 or rests:
                    continue
                started, measured = time.monotonic(), left
                self._measure(left)
                rested = time.monotonic() + _REST * (time.monotonic() - started)
            except OSError as error:
                log.warning("the disk of %s cannot be watched now: %s", self.folders[0], error)

    def _measure(self, left: float) -> None:
        used, allowed = _space_of(self.folders), _allowed(left, self.space)
        if used > allowed:
            self.error = _error(self.folders[0], used, allowed)
            self.end()


def _left(folder: Path) -> float:
    """Which part of the reserve is free, in bytes or in files: the smaller one. The disk is almost full below 1."""
    disk = os.statvfs(folder)
    size = disk.f_blocks * disk.f_frsize
    kept = max(1, reserve(size))
    # Some file systems do not count files.
    files = disk.f_favail * size / (disk.f_files * kept) if disk.f_files else 1
    return min(disk.f_bavail * disk.f_frsize / kept, files)


def _allowed(left: float, space: int) -> int:
    """How many bytes a job may take that asked for `space`."""
    return space if left > _CRITICAL else min(space, settings().build_env_size * _GIB)


def _space_of(folders: Sequence[Path]) -> int:
    """The bytes that folders take on their disk, or more, if they consist of many small files.

    The program du reads trees of any depth. If it takes too long, the folders have more files than any image.
    """
    command = ["du", "--summarize", "--one-file-system"]
    try:
        size = _sum([*command, "--block-size=1", "--", *map(str, folders)])
        return max(size, _BYTES_PER_FILE * _sum([*command, "--inodes", "--", *map(str, folders)]))
    except subprocess.TimeoutExpired:
        log.warning("%s has too many files to count", folders[0])
        return _BYTES_PER_FILE * 1024**3


def _sum(command: list[str]) -> int:
    # Files disappear while du reads them, so it may complain.
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, timeout=_MEASURE_SECONDS
    )
    return sum(int(line.partition(b"\t")[0]) for line in done.stdout.splitlines())


def _error(folder: Path, used: int, space: int) -> DiskFullError:
    disk = os.statvfs(folder)
    free, kept = disk.f_bavail * disk.f_frsize, reserve(disk.f_blocks * disk.f_frsize)
    return DiskFullError(
        f"the disk of {folder} is almost full: {free // _MIB} MiB and {disk.f_favail} files are free, "
        f"IMS_DISK_RESERVE_MIB keeps {kept // _MIB} MiB, and the job takes {used / _GIB:.1f} GiB, which is more than "
        f"its {space / _GIB:.1f} GiB",
        "Set build_env_size, or make room on the disk",
    )
