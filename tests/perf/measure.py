"""Wall and processor time of something, and the tables that show them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Cost:
    """What something took, in seconds. `cpu` is that of the whole machine: whoever did the work, it counts."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure a block."""
    cost, wall, cpu = Cost(), time.monotonic(), busy()
    yield cost
    cost.wall, cost.cpu = time.monotonic() - wall, busy() - cpu


def busy() -> float:
    """Seconds that the machine's processors have worked so far."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = (
        int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
