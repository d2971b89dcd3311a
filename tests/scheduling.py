"""What the workers of `make test` run, and in which order.

A unit is what one worker runs without a break: a file, or the files that share a state or an image that is built once.
Workers take units from the front of the queue. The first test of a worker that needs the stack starts one for it. Three
workers keep two processors busy, since jobs and shells often wait; a fourth stack costs more than it gains.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

FLOWS = "tests/flows/test_"
# The longest units come first, so that no worker starts one of them when the others are almost done.
UNITS: dict[str, tuple[str, ...]] = {
    # The plan comes before the pages: following these makes another image of the recipe.
    "debian": (f"{FLOWS}create_debian", f"{FLOWS}plan", f"{FLOWS}docs", f"{FLOWS}customize_debian"),
    "customize": (f"{FLOWS}customize.py", f"{FLOWS}ui"),
    "faults": (f"{FLOWS}pod_faults", f"{FLOWS}customize_faults"),
    "lint": ("tests/test_lint", "tests/test_architecture", "tests/steps/test_build_image"),
    "nights": (f"{FLOWS}nightly", f"{FLOWS}interrupted"),
    "cli": ("tests/cli/",),
    "api": ("tests/api/", "tests/storage/", "tests/steps/test_fetch_image"),
    "scripted": (f"{FLOWS}customize_scripted",),
    "flows": (FLOWS,),
    "shell": ("tests/shell/",),
}
# Their files may run on different workers.
_SPLIT = ("flows", "shell")


def unit_of(path: str) -> str:
    """The unit of a test file: its own, unless it is one of those that stay together."""
    unit = next((name for name, prefixes in UNITS.items() if path.startswith(prefixes)), path)
    return path if unit in _SPLIT else unit


def rank(path: str) -> tuple[int, int]:
    """Where a test file stands in the queue."""
    for place, prefixes in enumerate(UNITS.values()):
        for within, prefix in enumerate(prefixes):
            if path.startswith(prefix):
                return place, within
    return len(UNITS), 0


def sort(items: list[pytest.Item]) -> None:
    """Put tests into the order of the queue. Every worker must come to the same order."""
    items.sort(key=lambda item: rank(item.nodeid))


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out units in the order of the queue."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid.partition("::")[0])
