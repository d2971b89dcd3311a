"""Which records running jobs work with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ims.api.airflow import AirflowApi
from ims.api.problems import Problem
from ims.api.runs import WORKFLOWS
from ims.jobs import job_id

_FIELDS = ("artifact_id", "public_key_id")


async def records_in_use(airflow: AirflowApi) -> dict[str, str]:
    """Ids of the records that jobs work with that have not ended, each with one of these jobs."""
    running = await airflow.search(
        "dags/~/dagRuns/list", "dag_runs", dag_ids=list(WORKFLOWS), states=["queued", "running"]
    )
    return {
        str(identity): job_id(run["dag_run_id"])
        for run in running
        for field in _FIELDS
        if (identity := (run["conf"] or {}).get(field)) is not None
    }


def refuse_in_use(used: Mapping[str, str], identities: Iterable[str]) -> None:
    """Raises Problem: 409, a running job works with one of the records."""
    for identity in identities:
        if identity in used:
            raise Problem(409, f"the job {used[identity]} works with {identity}: wait until it has ended, or cancel it")
