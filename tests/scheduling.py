"""What the workers of `make test` run, and in which order.

A unit is what one worker runs without a break: a file, or the tests that share a state or an image that is built once.
Workers take units from the front of the queue. The first test of a worker that needs the stack starts one for it. Three
workers keep two processors busy, since jobs and shells often wait; a fourth stack costs more than it gains.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

FLOWS, ATTACKS = "tests/flows/test_", "tests/attacks/test_"
# The longest units come first, so that no worker starts one of them when the others are almost done.
UNITS: dict[str, tuple[str, ...]] = {
    # The tests with the fixture `debian`. The plan comes before the pages: these make another image of the recipe.
    "debian": (
        f"{FLOWS}create_debian",
        f"{FLOWS}plan.py::test_plan_of_debian",
        f"{FLOWS}docs.py::test_tutorial",
        f"{FLOWS}docs.py::test_pages_about_images",
        f"{FLOWS}customize_debian",
        f"{FLOWS}debian_kernel",
    ),
    "customize": (f"{FLOWS}customize.py", f"{FLOWS}ui"),
    "planning": ("tests/planning/",),
    "built": ("tests/steps/test_package_built",),
    "faults": (f"{FLOWS}pod_faults", f"{FLOWS}customize_faults"),
    "lint": ("tests/test_lint", "tests/test_architecture", "tests/steps/test_build_image"),
    "nights": (f"{FLOWS}nightly", f"{FLOWS}interrupted"),
    "cli": ("tests/cli/",),
    "api": ("tests/api/", "tests/storage/", "tests/steps/test_fetch_image", f"{ATTACKS}api", f"{ATTACKS}runs"),
    "attacks": (
        *(f"{ATTACKS}secret_search", f"{ATTACKS}endless", f"{ATTACKS}builds", f"{ATTACKS}archives", f"{ATTACKS}disk"),
        *(f"{ATTACKS}deadlines", f"{ATTACKS}job_credentials"),
    ),
    "scripted": (f"{FLOWS}customize_scripted",),
    "flows": (FLOWS,),
    "shell": ("tests/shell/",),
}
# Their files may run on different workers.
_SPLIT = ("attacks", "flows", "shell")


def unit_of(test: str) -> str:
    """Returns the unit of a test: that of the table, or its file."""
    unit = next((name for name, prefixes in UNITS.items() if test.startswith(prefixes)), None)
    return test.partition("::")[0] if unit is None or unit in _SPLIT else unit


def rank(test: str) -> tuple[int, int]:
    """Returns the place of a test in the queue."""
    for place, prefixes in enumerate(UNITS.values()):
        for within, prefix in enumerate(prefixes):
            if test.startswith(prefix):
                return place, within
    return len(UNITS), 0


def sort(items: list[pytest.Item]) -> None:
    """Sort tests in the order of the queue. Every worker must get the same order."""
    items.sort(key=lambda item: rank(item.nodeid))


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out units in the order of the queue."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
