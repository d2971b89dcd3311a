"""Measure the overhead of each step, in the runtime of the settings."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from ims.settings import settings
from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import RepositoryServer, build_repository
from tests.perf.measure import table
from tests.service import Service

ROUNDS = 3
HEAD = ("step", "its own work, s", "around it, s", "to the next step, s")


def steps_table(service: Service, folder: Path) -> str:
    """Return the medians of several builds of a small RPM recipe."""
    with _cluster(service), RepositoryServer(build_repository(folder)) as server:
        recipe = service.push(RECIPES / "zypper", "sles15", REPOSITORY=server.url)
        jobs = [_job(service, recipe["id"]) for _ in range(ROUNDS + 1)][1:]
        costs: dict[str, list[tuple[float, float, float]]] = {}
        for job in jobs:
            for name, *cost in _costs(service, job):
                costs.setdefault(name, []).append((cost[0], cost[1], cost[2]))
    medians = {name: map(statistics.median, zip(*found, strict=True)) for name, found in costs.items()}
    rows = [[name, *(f"{seconds:.1f}" for seconds in found)] for name, found in medians.items()]
    whole = statistics.median(_seconds(job["steps"][0]["started"], job["steps"][-1]["ended"]) for job in jobs)
    rows.append(["the whole job", f"{whole:.1f}", "", ""])
    return f"\n### steps, runtime {settings().runtime}\n\n" + table(HEAD, rows)


def _cluster(service: Service) -> AbstractContextManager[None]:
    if settings().runtime != "kubernetes":
        return nullcontext()
    from tests.cluster import prepared_cluster

    return prepared_cluster(settings(), service.credentials)


def _job(service: Service, recipe: str) -> dict[str, Any]:
    job = service.wait(service.create(recipe)["id"])
    assert job["status"] == "success", job["reason"]
    return job


def _costs(service: Service, job: dict[str, Any]) -> Iterator[tuple[str, float, float, float]]:
    """Yield the duration that each step logs, the overhead of its task, and the time to the next task."""
    ran = [step for step in job["steps"] if step["started"]]
    for step in ran:
        log = service.http.get(f"/apis/ims/v3/jobs/{job['id']}/logs/{step['name']}").text
        if said := re.search(r" took (\d+\.\d) s", log):
            later = [other["started"] for other in ran if other["started"] > step["ended"]]
            pause = _seconds(step["ended"], min(later)) if later else 0.0
            own = float(said[1])
            yield step["name"], own, _seconds(step["started"], step["ended"]) - own, pause


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
