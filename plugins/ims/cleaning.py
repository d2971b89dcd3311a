"""What a clean-up finds and removes, and the summary of it in answers, task results and logs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

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


def remove_all(findings: Iterable[Finding]) -> tuple[list[Finding], list[str]]:
    """Remove what was found. An item that cannot be removed does not stop the others.

    Returns what was removed, and the name of each item that could not be removed with the reason.
    """
    removed, failed = [], []
    for item in findings:
        try:
            if item.remove():
                removed.append(item)
        except Exception as error:  # a defect of one item must not keep the others
            log.exception("%s %s cannot be removed", item.kind, item.name)
            failed.append(f"{item.kind} {item.name} ({error})")
    return removed, failed


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
