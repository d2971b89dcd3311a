"""Wall time and processor time of a block of code, and tables of them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Cost:
    """Wall time and processor time, in seconds. `cpu` counts the whole machine, because other processes do the work."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure a block of code. The cost is complete after the block."""
    cost, wall, cpu = Cost(), time.monotonic(), busy()
    yield cost
    cost.wall, cost.cpu = time.monotonic() - wall, busy() - cpu


def busy() -> float:
    """Return the seconds that the processors of this machine have been busy since boot."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = (
        int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def busy_of(home: Path) -> float:
    """Return the seconds of processor time of the processes of an installation, and of their ended children."""
    total, variable = 0, f"IMS_HOME={home}\0".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if variable in (process / "environ").read_bytes():
                total += sum(map(int, (process / "stat").read_text().rpartition(")")[2].split()[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
