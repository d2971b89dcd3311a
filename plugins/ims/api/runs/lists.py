"""Lists of runs, which Airflow returns in pages: only one page at a time is in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.concurrency import run_in_threadpool

from ims.api.runs.airflow import PAGE, AirflowApi
from ims.api.runs.every_run import recorded_failures
from ims.api.runs.reasons import add_reasons
from ims.api.runs.runs import Run, ordered, run_of
from ims.api.runs.states import RUN_NOT_ENDED
from ims.records.selection import Position
from ims.workflows import JOB_DAG_IDS


@dataclass(frozen=True)
class RunFilter:
    """A filter of runs, limited to what Airflow can filter by."""

    workflows: Sequence[str] = JOB_DAG_IDS
    states: Sequence[str] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None

    def body(self) -> dict[str, Any]:
        """The body of a request to Airflow."""
        moments = {"run_after_gt": self.created_after, "run_after_lt": self.created_before}
        return {
            "dag_ids": list(self.workflows),
            "states": self.states,
            "order_by": "run_after",
            "page_limit": PAGE,
            **{name: moment.isoformat() for name, moment in moments.items() if moment is not None},
        }


def position(run: Run) -> Position:
    """Returns the position of a run in a list."""
    return Position(run.created, f"{run.dag_id} {run.run_id}")


async def pages_of_runs(airflow: AirflowApi, selection: RunFilter, after: Position | None) -> AsyncIterator[list[Run]]:
    """Yields pages of the runs that pass the filter and come after `after`, oldest first, with their steps."""
    begin, offset = (after.created if after else None), 0
    while True:
        body = {**selection.body(), "page_offset": offset}
        if begin is not None:
            body["run_after_gte"] = begin.isoformat()
        found = [run_of(item) for item in (await airflow.call("POST", "dags/~/dagRuns/list", json=body))["dag_runs"]]
        runs = after_position(found, after)
        await add_steps(airflow, runs)
        yield runs
        if len(found) < PAGE:
            return
        # The next page begins at a time instead of an offset, because runs may be deleted meanwhile. The offset only
        # counts the runs of the same moment.
        last = found[-1].created
        offset = sum(run.created == last for run in found) + (offset if last == begin else 0)
        begin, after = last, None


async def visible_jobs(airflow: AirflowApi) -> list[Run]:
    """Returns the runs of jobs that have not ended, without their steps, as far as the caller may see them."""
    query = RunFilter(states=RUN_NOT_ENDED).body()
    return [run_of(item) for item in await airflow.search("dags/~/dagRuns/list", "dag_runs", **query)]


async def queue_positions(airflow: AirflowApi, runs: Sequence[Run]) -> dict[str, int]:
    """Returns the place in the queue of their workflow for the runs that wait, by their ids; 1 is the next.

    Airflow starts runs in this order: see DagRun.get_queued_dag_runs_to_set_running. A cancelled run stays in the queue
    until Airflow would start it, but has no place here.
    """
    positions: dict[str, int] = {}
    waiting = [run for run in runs if run.state == "queued" and run.status == "creating"]
    for dag_id in {run.dag_id for run in waiting}:
        query = RunFilter(workflows=(dag_id,), states=("queued",)).body()
        queued = await airflow.search("dags/~/dagRuns/list", "dag_runs", **query)
        positions |= {item["dag_run_id"]: number for number, item in enumerate(queued, 1)}
    return {run.run_id: positions[run.run_id] for run in waiting if run.run_id in positions}


def after_position(runs: list[Run], after: Position | None) -> list[Run]:
    """Returns the runs after the one at a position; all runs if none is at it."""
    positions = [position(run) for run in runs]
    return runs[positions.index(after) + 1 :] if after in positions else runs


async def add_steps(airflow: AirflowApi, runs: Sequence[Run]) -> None:
    """Sets the steps and reasons of runs. Successful runs need none: their status is known without."""
    unknown = [run for run in runs if run.state != "success"]
    if not unknown:
        return
    items = await airflow.search(
        "dags/~/dagRuns/~/taskInstances/list",
        "task_instances",
        dag_ids=list(JOB_DAG_IDS),
        dag_run_ids=[run.run_id for run in unknown],
    )
    steps: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for item in items:
        steps[item["dag_id"], item["dag_run_id"]].append(item)
    for run in unknown:
        run.steps = ordered(run.dag_id, steps[run.dag_id, run.run_id])
    failed = [run for run in unknown if run.failed is not None and await airflow.may_read_results(run.dag_id)]
    failures = await run_in_threadpool(recorded_failures, failed) if len(failed) > 1 else {}
    await add_reasons(airflow, unknown, failures)
