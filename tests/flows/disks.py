"""A disk for workspaces that is almost full with one job."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ims.sandbox.overlay import mount
from tests.flows.waiting import wait_for
from tests.service import Service

MIB = 1024**2
DISK_SIZE = 1200 * MIB
"""Slightly more than a job requires."""


@contextmanager
def mounted_disk(place: Path, file: Path, size: int) -> Iterator[None]:
    """Mount a new disk of `size` bytes, which is kept in a file."""
    with file.open("wb") as disk:
        disk.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", file], check=True)
    mount("-o", "loop", file, place)
    try:
        yield
    finally:
        wait_for(lambda: subprocess.run(["umount", place], check=False).returncode == 0, 30)
        file.unlink()


@contextmanager
def small_disk(service: Service, folder: Path) -> Iterator[Path]:
    """Put workspaces on a disk that is slightly larger than a job requires. Yields the folder."""
    workspaces = service.settings.workspaces
    with mounted_disk(workspaces, folder / "disk", DISK_SIZE):
        yield workspaces
