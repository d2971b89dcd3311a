"""How much of the machine a box may use: processes, memory, open files and core dumps.

Processes and memory are limited by a control group, of version 2 or 1. Where there is none to write to, as in many
containers, the limits of the container remain, and those that need no control group.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OPEN_FILES = 65536
_PREFIX = "ims-box-"
_REMOVAL_SECONDS = 5.0
_NEW_SECONDS = 3600


@dataclass(frozen=True)
class Limits:
    """The processes of a box, and its memory in bytes; None: as much as there is."""

    processes: int = 8192
    memory: int | None = None


@contextmanager
def control_groups(limits: Limits, folder: Path = CONTROL_GROUPS) -> Iterator[list[Path]]:
    """Make a control group with the limits; yields the files that take the ID of a process that joins it.

    Yields an empty list if this machine lets us make none. At the end, the processes in the group must have ended.
    """
    groups: list[Path] = []
    name = f"{_PREFIX}{uuid4().hex}"
    with ExitStack() as cleanup:
        for parent, values in _hierarchies(limits, folder):
            _remove_old(parent)
            group = parent / name
            with suppress(OSError):
                group.mkdir()
                cleanup.callback(_remove, group.name, cleanup.enter_context(_opened(parent)))
                for file, value in values.items():
                    (group / file).write_text(str(value))
                groups.append(group)
        yield [group / "cgroup.procs" for group in groups]


def version(folder: Path = CONTROL_GROUPS) -> int | None:
    """The version of the control groups that limit processes and memory, or None if there are none to write to."""
    hierarchies = [parent for parent, _ in _hierarchies(Limits(memory=1), folder) if os.access(parent, os.W_OK)]
    if not hierarchies:
        return None
    return 2 if hierarchies == [folder] else 1


def limit_resources(limits: Limits) -> None:
    """Set the limits of this process that need no control group. Its children inherit them."""
    for kind, value in (
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_CORE, 0),
    ):
        present = resource.getrlimit(kind)[1]
        allowed = value if present == resource.RLIM_INFINITY else min(value, present)
        resource.setrlimit(kind, (allowed, allowed))


def _hierarchies(limits: Limits, folder: Path) -> list[tuple[Path, dict[str, int]]]:
    """The folders in which a group is made, with the content of its files."""
    memory = {} if limits.memory is None else {"memory.max": limits.memory}
    with suppress(OSError):
        if {"memory", "pids"} <= set((folder / "cgroup.subtree_control").read_text().split()):
            return [(folder, {"pids.max": limits.processes, **memory})]
    found = [(folder / "pids", {"pids.max": limits.processes})]
    if limits.memory is not None:
        found.append((folder / "memory", {"memory.limit_in_bytes": limits.memory}))
    return [(parent, values) for parent, values in found if (parent / "cgroup.procs").exists()]


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    yield descriptor
    os.close(descriptor)


def _remove(name: str, parent: int) -> None:
    """Remove a group, whose last processes may take a moment to disappear.

    `parent` is a descriptor: while a box runs, the process that made it sees the files of the box.
    """
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while True:
        try:
            return os.rmdir(name, dir_fd=parent)
        except OSError:
            if time.monotonic() > deadline:
                return None  # the next box tries again
            time.sleep(0.02)


def _remove_old(parent: Path) -> None:
    """Remove the groups of boxes that were killed. Those in use cannot be removed; a new one may still be empty."""
    for group in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - group.stat().st_mtime > _NEW_SECONDS:
                group.rmdir()
