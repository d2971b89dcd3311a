"""What a clean-up finds, wherever it looks, and how that is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

SHOWN = 1000


@dataclass(frozen=True)
class Finding:
    """One thing that can go, and its bytes; `remove` returns whether it went: meanwhile it may have become needed."""

    kind: str
    name: str
    size: int
    remove: Callable[[], bool]


def summary(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """By kind: how many there are, their bytes, and the names of the first thousand."""
    kinds: dict[str, list[Finding]] = {}
    for item in findings:
        kinds.setdefault(item.kind, []).append(item)
    return [
        {
            "kind": kind,
            "count": len(items),
            "bytes": sum(item.size for item in items),
            "items": [item.name for item in items[:SHOWN]],
        }
        for kind, items in kinds.items()
    ]
