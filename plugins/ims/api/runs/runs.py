"""Airflow runs seen as IMS jobs: status, failed step and reason, all read from what Airflow knows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from ims.api.http.problems import Problem
from ims.api.runs.airflow import AirflowApi
from ims.jobs import is_derived_id, job_id
from ims.params import JobParams
from ims.workflows import CREATE_IMAGE, FAILURE, JOB_DAG_IDS, WAIT_FOR_COMPLETION, JobType, JobWorkflow, job_workflow

_RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.~:+-]*")
_WITHOUT = {"skipped", "upstream_failed", "removed"}
_NOT_STARTED = {None, "none", "scheduled", "queued", *_WITHOUT}
_ENDED = {"success", "failed", *_WITHOUT}


class StepState(BaseModel):
    """One task of a job."""

    name: str
    map_index: int
    state: str | None
    try_number: int
    started: datetime | None
    ended: datetime | None

    @property
    def label(self) -> str:
        """The task's name, with its number where it is one of several."""
        return self.name if self.map_index < 0 else f"{self.name}[{self.map_index}]"

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or will not begin."""
        return self.state in _ENDED


class Run(BaseModel):
    """A run of a workflow with its tasks, in their order."""

    dag_id: str
    run_id: str
    state: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    conf: dict[str, Any]
    steps: list[StepState] = []
    reason: str | None = None

    @property
    def job_id(self) -> str:
        """The job's id."""
        return job_id(self.run_id)

    @property
    def job_type(self) -> JobType:
        """The job's type."""
        return self._workflow.job_type

    @property
    def _workflow(self) -> JobWorkflow:
        return job_workflow(self.dag_id)

    @property
    def cancelled(self) -> bool:
        """Whether somebody ended the run: Airflow then skips what had not begun."""
        return any(step.state == "skipped" and not self._workflow.task(step.name).optional for step in self.steps)

    @property
    def failed(self) -> StepState | None:
        """The first task that failed; the last one always fails with it, alone if none had begun."""
        step = next((step for step in self.steps if step.state == "failed"), None)
        return None if self.cancelled and step is self.steps[-1] else step

    @property
    def status(self) -> str:
        """The job's status in IMS's words."""
        if self.state in ("success", "failed"):
            return "success" if self.state == "success" else "error"
        if self.cancelled or (self.failed is not None and not self._is_debugged):
            return "error"
        started = [step for step in self.steps if step.state not in _NOT_STARTED]
        return self._workflow.status(started[-1].name) if started else "creating"

    @property
    def _is_debugged(self) -> bool:
        """Whether a shell is open, or about to be, in which somebody looks at what failed."""
        waits = next((step.state for step in self.steps if step.name == WAIT_FOR_COMPLETION), None)
        return self.job.enable_debug and self._workflow is CREATE_IMAGE and waits not in _ENDED

    @property
    def job(self) -> JobParams:
        """The job's fields, with defaults where the run was not given them; not checked."""
        model = self._workflow.params
        return model.model_construct(**{name: self.conf[name] for name in model.model_fields if name in self.conf})


async def find_run(airflow: AirflowApi, identity: str) -> Run | None:
    """The run that is the job `identity`, with its tasks."""
    run = await find_run_of(airflow, JOB_DAG_IDS, identity)
    return None if run is None else await with_steps(airflow, run)


async def find_run_of(airflow: AirflowApi, workflows: Sequence[str], identity: str) -> Run | None:
    """As `find_run` among some workflows, without tasks: by the run's own id, else by looking through all."""
    if not _RUN_ID.fullmatch(identity):
        return None
    for dag_id in workflows:
        found = await airflow.find(f"dags/{dag_id}/dagRuns/{identity}")
        if found is not None:
            return run_of(found)
    if not is_derived_id(identity):
        return None  # thousands of runs need not be looked through
    for dag_id in workflows:
        for item in await airflow.pages(f"dags/{dag_id}/dagRuns", "dag_runs", order_by="-run_after"):
            if job_id(item["dag_run_id"]) == identity:
                return run_of(item)
    return None


async def expect_run(airflow: AirflowApi, identity: str) -> Run:
    """As `find_run`. Raises Problem: 404, there is none."""
    run = await find_run(airflow, identity)
    if run is None:
        raise Problem(404, f"there is no job with the id {identity}")
    return run


async def with_steps(airflow: AirflowApi, run: Run) -> Run:
    """The run with its tasks and, if one failed, the reason."""
    items = await airflow.pages(f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances", "task_instances")
    run.steps = ordered(run.dag_id, items)
    await add_reason(airflow, run)
    return run


def run_of(item: Mapping[str, Any]) -> Run:
    """A run as Airflow describes it, without its tasks."""
    return Run(
        dag_id=item["dag_id"],
        run_id=item["dag_run_id"],
        state=item["state"],
        created=item["run_after"],  # never changes, unlike the time it was queued
        started=item["start_date"],
        ended=item["end_date"],
        conf=item["conf"] or {},
    )


def ordered(dag_id: str, items: Iterable[Mapping[str, Any]]) -> list[StepState]:
    """Tasks as Airflow describes them, in the order of the workflow. Raises ImsError: the workflow has no such task."""
    workflow = job_workflow(dag_id)
    steps = [
        StepState(
            name=item["task_id"],
            map_index=item["map_index"],
            state=item["state"],
            try_number=item["try_number"],
            # Airflow says of what it decided not to run that it started and ended then: only the latter is so.
            started=item["start_date"] if item["try_number"] else None,
            ended=item["end_date"],
        )
        for item in items
    ]
    return sorted(steps, key=lambda step: (workflow.position(step.name), step.map_index))


async def add_reason(airflow: AirflowApi, run: Run) -> None:
    """Give a run, whose tasks are known, the reason of its failure, if it failed."""
    run.reason = await _reason(airflow, run)


async def _reason(airflow: AirflowApi, run: Run) -> str | None:
    step = run.failed
    if step is None:
        return "the job was cancelled" if run.cancelled or run.state == "failed" else None
    reason = await xcom(airflow, run, step.name, FAILURE, step.map_index)
    if reason is None and run.cancelled:
        return f"{step.label}: the job was cancelled"
    if reason is None:
        return f"{step.label} ended without a reason: a process was killed"
    return f"{step.label}: {reason}"


async def xcom(airflow: AirflowApi, run: Run, task: str, key: str, map_index: int = -1) -> Any | None:
    """What a task of a run has left under a key; None if it has not."""
    path = f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task}/xcomEntries/{key}"
    entry = await airflow.find(path, params={"map_index": map_index})
    return None if entry is None else entry["value"]
