"""Removing what a clean-up found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ims.cleaning import Finding, remove_all, summary


def failing(error: Exception) -> Callable[[], bool]:
    """A removal that fails."""

    def remove() -> bool:
        raise error

    return remove


@pytest.mark.parametrize(
    "error", [OSError("busy"), RecursionError("deep"), ValueError("odd"), KeyError("defect")], ids=repr
)
def test_one_failure_does_not_stop_the_others(error: Exception) -> None:
    """The item is named with the reason. What is in use by now counts neither as removed nor as failed."""
    found = [
        Finding("workspaces", "a", 1, lambda: True),
        Finding("workspaces", "b", 2, failing(error)),
        Finding("caches", "c", 4, lambda: False),
        Finding("caches", "d", 8, lambda: True),
    ]
    removed, failed = remove_all(found)
    assert [item.name for item in removed] == ["a", "d"]
    assert failed == [f"workspaces b ({error})"]
    assert [(kind["kind"], kind["bytes"]) for kind in summary(removed)] == [("workspaces", 1), ("caches", 8)]
