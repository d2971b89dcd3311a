"""How much of the machine a box may use: processes, memory, open files and core dumps. `ims.sandbox.disk` limits disks.

Processes and memory are limited by a control group, of version 2 or 1. Where none can be made, as in many containers,
the limits of the container remain, and those that need no control group: these cover processes, but not memory.
"""

from __future__ import annotations

import os
import resource
import signal
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
_FILES = {"pids": "pids.max", "memory": "memory.limit_in_bytes"}
"""The files of groups of version 1."""
_SAMPLE_MEMORY = 1 << 30


@dataclass(frozen=True)
class Limits:
    """The processes of a box, its memory in bytes, and the bytes that it may take when its disk is almost full.

    None: as much as there is.
    """

    processes: int = 8192
    memory: int | None = None
    space: int | None = None

    @classmethod
    def of_machine(cls, processes: int, memory_percent: int, space_gib: int) -> Limits:
        """Limits with a part of the memory of this machine, which needs the rest."""
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * memory_percent // 100
        return cls(processes, memory, space_gib * 1024**3)


@contextmanager
def control_groups(limits: Limits, folder: Path = CONTROL_GROUPS) -> Iterator[list[Path]]:
    """Make a control group with the limits; yields the files that take the ID of a process that joins it.

    Yields an empty list if this machine lets us make none. At the end, the processes in the group are killed.
    """
    with _made(limits, folder) as groups:
        yield [group / "cgroup.procs" for _, group in groups]


@dataclass(frozen=True)
class Controllers:
    """The version of the control groups of boxes, and what they limit: `memory`, `pids`. None: there are none."""

    version: int | None = None
    names: tuple[str, ...] = ()


def controllers(folder: Path = CONTROL_GROUPS) -> Controllers:
    """What the control groups of boxes limit on this machine. Makes groups as boxes do, and removes them."""
    with _made(Limits(memory=_SAMPLE_MEMORY), folder) as groups:
        names = sorted(name for hierarchy, _ in groups for name in hierarchy.values)
        return Controllers(groups[0][0].version, tuple(names)) if groups else Controllers()


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


@dataclass(frozen=True)
class _Hierarchy:
    """A folder in which groups are made, and the files of a group with their content, by controller."""

    version: int
    folder: Path
    values: dict[str, tuple[str, int]]


def _hierarchies(limits: Limits, folder: Path) -> list[_Hierarchy]:
    """The hierarchies whose controllers limit what is in them. In version 2, the root must pass its controllers on."""
    values = {"pids": limits.processes} | ({} if limits.memory is None else {"memory": limits.memory})
    with suppress(OSError):
        enabled = (folder / "cgroup.subtree_control").read_text().split()
        files = {name: (f"{name}.max", value) for name, value in values.items() if name in enabled}
        return [_Hierarchy(2, folder, files)] if files else []
    found = [_Hierarchy(1, folder / name, {name: (_FILES[name], value)}) for name, value in values.items()]
    return [hierarchy for hierarchy in found if (hierarchy.folder / "cgroup.procs").exists()]


@contextmanager
def _made(limits: Limits, folder: Path) -> Iterator[list[tuple[_Hierarchy, Path]]]:
    """Make a group with the limits in every hierarchy that lets us; yields these hierarchies and groups."""
    groups: list[tuple[_Hierarchy, Path]] = []
    name = f"{_PREFIX}{uuid4().hex}"
    with ExitStack() as cleanup:
        for hierarchy in _hierarchies(limits, folder):
            _remove_old(hierarchy.folder)
            group = hierarchy.folder / name
            with suppress(OSError):
                group.mkdir()
                cleanup.callback(_remove, group)
                for file, value in hierarchy.values.values():
                    (group / file).write_text(str(value))
                groups.append((hierarchy, group))
        yield groups


def _remove(group: Path) -> None:
    """Kill what is left in a group and remove it. Its last processes may take a moment to disappear."""
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while True:
        try:
            return group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                return None  # the next box tries again
            _kill_all(group)
            time.sleep(0.02)


def _kill_all(group: Path) -> None:
    with suppress(OSError):
        for pid in map(int, (group / "cgroup.procs").read_text().split()):
            if pid > 0:  # otherwise it is in a PID namespace that we cannot see
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _remove_old(parent: Path) -> None:
    """Remove the groups of boxes that were killed. Those in use cannot be removed; a new one may still be empty."""
    for group in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - group.stat().st_mtime > _NEW_SECONDS:
                group.rmdir()
