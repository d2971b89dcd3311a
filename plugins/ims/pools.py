"""Airflow's pools. Each kind of work has its own slots: builds that never end stop no customization and no clean-up.

`python -m ims.pools` prints the pools as the file that `airflow pools import` reads.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ims.settings import Settings, settings

DEFAULT = "default_pool"
"""Airflow's own pool: tasks that take seconds."""
BUILDS = "builds"
PACKING = "packing"
SCRIPTS = "scripts"
SHELLS = "shells"
PLANS = "plans"
TEARDOWNS = "teardowns"
NIGHTLY = "nightly"
SCRUBS = "scrubs"


@dataclass(frozen=True)
class Pool:
    """A pool: at most `slots` of its tasks run at the same time, or are deferred if these count, too."""

    name: str
    slots: int
    description: str
    include_deferred: bool = False

    @property
    def fields(self) -> dict[str, Any]:
        """What Airflow stores beside the name."""
        return {"slots": self.slots, "description": self.description, "include_deferred": self.include_deferred}


def pools(own: Settings) -> tuple[Pool, ...]:
    """Returns all pools of an installation."""
    tasks = own.parallelism
    return (
        Pool(DEFAULT, max(2, tasks // 2), "Tasks that take seconds"),
        Pool(BUILDS, tasks, "Fetching recipes and building images"),
        Pool(PACKING, tasks, "Packing and uploading images"),
        Pool(SCRIPTS, max(1, tasks // 2), "Scripts and playbooks of customize jobs"),
        Pool(SHELLS, tasks, "Fetching images and opening shells"),
        Pool(PLANS, 2, "Plans"),
        Pool(TEARDOWNS, 2, "Closing shells and workspaces, maintenance"),
        Pool(SCRUBS, 1, "Reading the objects of images"),
        Pool(NIGHTLY, own.nightly_parallelism, "Builds of a night", include_deferred=True),
    )


def total_slots(own: Settings) -> int:
    """The number of tasks that run at the same time if all pools are full."""
    return sum(pool.slots for pool in pools(own))


if __name__ == "__main__":
    print(json.dumps({pool.name: pool.fields for pool in pools(settings())}, indent=2))
