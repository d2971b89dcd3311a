"""Why a run failed or waits, in one sentence; cancelling a run, which is a reason too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ims.api.errors import AirflowError
from ims.api.runs.airflow import AirflowApi
from ims.api.runs.every_run import Result
from ims.api.runs.runs import Run
from ims.settings import settings
from ims.workflows import (
    ENVIRONMENT_FAILED,
    FAILURE,
    OPEN_WORKSPACE,
    WAIT_FOR_COMPLETION,
    WAIT_FOR_REPOSITORIES,
    WAITS_FOR,
    find_workflow,
)

_WAITING = (OPEN_WORKSPACE, WAIT_FOR_REPOSITORIES, WAIT_FOR_COMPLETION)
_CANCELLED = "cancelled"
_NOTE_LENGTH = 1000  # Airflow's limit


async def cancel(airflow: AirflowApi, run: Run, cause: str) -> None:
    """Ends a run, and adds a line to its note, for example "cancelled by admin at 2026-01-01 21:25 UTC".

    `cause` is the middle of the line: "by admin", or another cause such as "because its inputs were deleted".
    """
    line = f"{_CANCELLED} {cause} at {_minute(datetime.now(UTC))}"
    note = "\n".join(filter(None, [run.note, line]))[-_NOTE_LENGTH:]
    await airflow.call("PATCH", f"dags/{run.dag_id}/dagRuns/{run.run_id}", json={"state": "failed", "note": note})


async def add_reason(airflow: AirflowApi, run: Run) -> None:
    """Sets the reason of a job's run, whose steps are known, if it failed or waits for something that it has named."""
    await add_reasons(airflow, [run], {})


async def add_reasons(airflow: AirflowApi, runs: Sequence[Run], failures: Mapping[Result, str]) -> None:
    """Does the same for several runs. `failures` are reasons of failed tasks; Airflow is asked for others."""
    for run, reason in zip(runs, await asyncio.gather(*(_reason(airflow, run, failures) for run in runs)), strict=True):
        run.reason = reason


async def xcom(airflow: AirflowApi, run: Run, task: str, key: str, map_index: int = -1) -> Any | None:
    """Returns what a task of a run has pushed under a key, or None if it has not."""
    path = f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task}/xcomEntries/{key}"
    entry = await airflow.find(path, params={"map_index": map_index})
    return None if entry is None else entry["value"]


async def cancellation(airflow: AirflowApi, run: Run) -> str | None:
    """Returns who cancelled a run and when, or None if neither its note nor Airflow's audit log says so."""
    lines = (run.note or "").splitlines()
    noted = next((line for line in reversed(lines) if line.startswith(_CANCELLED)), None)
    return noted or await _logged(airflow, run)


def out_of_time(run: Run) -> str | None:
    """Returns the reason of a run that Airflow ended because it took longer than its limit, or None."""
    workflow = find_workflow(run.dag_id)
    if workflow is None or run.started is None or run.ended is None:
        return None
    limit = workflow.limit(settings())
    if (run.ended - run.started).total_seconds() < limit:
        return None
    return f"it took longer than its limit of {limit} s. IMS_RUN_SECONDS sets the limits of runs"


async def blames_recipe(airflow: AirflowApi, run: Run) -> bool:
    """Whether a job failed because of what it builds, and not of a service, the installation or a cancellation."""
    step = run.failed
    if step is None or run.was_interrupted:
        return False
    return await is_blamed(airflow, run, step.name, step.map_index)


async def is_blamed(airflow: AirflowApi, run: Run, task: str, map_index: int) -> bool:
    """Whether a failed task gave a reason that lies in the recipe."""
    keys = (FAILURE, ENVIRONMENT_FAILED)
    failure, environment = await asyncio.gather(*(xcom(airflow, run, task, key, map_index) for key in keys))
    return failure is not None and environment is None


async def _reason(airflow: AirflowApi, run: Run, failures: Mapping[Result, str]) -> str | None:
    step = run.failed
    if step is None or run.was_interrupted:
        if not run.is_cancelled and run.state != "failed":
            return await _waits_for(airflow, run)
        return await cancellation(airflow, run) or out_of_time(run) or _cancelled_at(run)
    reason = failures.get(Result(run.dag_id, run.run_id, step.name, step.map_index))
    if reason := reason or await xcom(airflow, run, step.name, FAILURE, step.map_index):
        return f"{step.label}: {reason}"
    # Whoever marks a run as failed also ends the tasks that are running, which then give no reason.
    return await cancellation(airflow, run) or f"{step.label} ended without a reason: a process was killed"


async def _waits_for(airflow: AirflowApi, run: Run) -> str | None:
    """Returns what a running job waits for, or None if it waits for nothing that it has named."""
    step = next((step for step in run.steps if step.name in _WAITING and step.state == "deferred"), None)
    text = await xcom(airflow, run, step.name, WAITS_FOR) if step is not None else None
    return f"{step.name}: {text}" if step is not None and text else None


async def _logged(airflow: AirflowApi, run: Run) -> str | None:
    """Returns what Airflow's audit log says; None also if the caller may not read it."""
    query = {"dag_id": run.dag_id, "run_id": run.run_id, "event": "patch_dag_run", "order_by": "-when"}
    try:
        events = (await airflow.call("GET", "eventLogs", params=query))["event_logs"]
    except AirflowError:
        return None
    for event in events:
        if json.loads(event["extra"] or "{}").get("state") == "failed":
            return f"{_CANCELLED} by {event['owner']} at {_minute(datetime.fromisoformat(event['when']))}"
    return None


def _cancelled_at(run: Run) -> str:
    ended = max((step.ended for step in run.steps if step.ended is not None), default=run.ended)
    return f"{_CANCELLED} at {_minute(ended)}" if ended is not None else _CANCELLED


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
