"""Finding the run of a job or night."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ims.api.runs.airflow import AirflowApi
from ims.api.runs.reasons import add_reason
from ims.api.runs.runs import Run, ordered, run_of
from ims.errors import MissingError
from ims.jobs import is_derived_id, job_id
from ims.workflows import JOB_DAG_IDS

RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.~:+-]*")
"""The ids of runs. None of them is a path to another folder."""


async def find_job(airflow: AirflowApi, identity: str) -> Run | None:
    """Returns the run of a job with its steps, or None if there is no such job."""
    run = await find_run(airflow, JOB_DAG_IDS, identity)
    return None if run is None else await with_steps(airflow, run)


async def expect_job(airflow: AirflowApi, identity: str) -> Run:
    """Returns the run of a job with its steps. Raises MissingError."""
    run = await find_job(airflow, identity)
    if run is None:
        raise MissingError(f"there is no job with the id {identity}")
    return run


async def find_run(airflow: AirflowApi, dag_ids: Sequence[str], identity: str) -> Run | None:
    """Returns the run of one of the DAGs whose id is `identity` or whose job id is; without steps."""
    if not RUN_ID.fullmatch(identity):
        return None
    for dag_id in dag_ids:
        found = await airflow.find(f"dags/{dag_id}/dagRuns/{identity}")
        if found is not None:
            return run_of(found)
    if not is_derived_id(identity):
        return None  # no need to search thousands of runs
    for dag_id in dag_ids:
        for item in await airflow.pages(f"dags/{dag_id}/dagRuns", "dag_runs", order_by="-run_after"):
            if job_id(item["dag_run_id"]) == identity:
                return run_of(item)
    return None


async def with_steps(airflow: AirflowApi, run: Run) -> Run:
    """Returns the run of a job with its steps and, if it failed, the reason."""
    items = await airflow.pages(f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances", "task_instances")
    run.steps = ordered(run.dag_id, items)
    await add_reason(airflow, run)
    return run
