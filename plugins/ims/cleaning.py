"""What a clean-up finds, and the summary of it in answers, task results and logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

NAMED_FINDINGS = 1000


@dataclass(frozen=True)
class Finding:
    """Something that can be removed, and its size in bytes.

    `remove` returns False if it is in use by now.
    """

    kind: str
    name: str
    size: int
    remove: Callable[[], bool]


def summary(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Returns the number and the size of the findings of each kind, and the names of the first NAMED_FINDINGS."""
    kinds: dict[str, list[Finding]] = {}
    for item in findings:
        kinds.setdefault(item.kind, []).append(item)
    return [
        {
            "kind": kind,
            "count": len(items),
            "bytes": sum(item.size for item in items),
            "items": [item.name for item in items[:NAMED_FINDINGS]],
        }
        for kind, items in kinds.items()
    ]
