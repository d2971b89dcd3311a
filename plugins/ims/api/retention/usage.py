"""What running jobs work with and make."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ims.api.http.problems import Problem
from ims.api.runs.airflow import AirflowApi
from ims.api.runs.runs import run_of, xcom
from ims.jobs import job_id
from ims.workflows import OPEN_WORKSPACE

_FIELDS = ("artifact_id", "public_key_id", "playbook")


async def running_jobs(airflow: AirflowApi) -> list[dict[str, Any]]:
    """The runs that have not ended, those too that wait for their turn, as Airflow describes them.

    Those of all workflows: whichever it is, it may have a workspace.
    """
    return await airflow.search("dags/~/dagRuns/list", "dag_runs", states=["queued", "running"])


def used_by(runs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Ids of the records, and addresses of the objects, that runs work with, each with one of these jobs."""
    return {
        str(value): job_id(run["dag_run_id"])
        for run in runs
        for field in _FIELDS
        if (value := (run["conf"] or {}).get(field)) is not None
    }


async def records_in_use(airflow: AirflowApi) -> dict[str, str]:
    """What `used_by` says of the jobs that have not ended."""
    return used_by(await running_jobs(airflow))


async def images_in_making(airflow: AirflowApi, runs: Sequence[Mapping[str, Any]]) -> set[str]:
    """Ids of the images that runs are uploading, or will: those that they have given one already."""
    found = await asyncio.gather(*(xcom(airflow, run_of(run), OPEN_WORKSPACE, "image_id") for run in runs))
    return {str(image_id) for image_id in found if image_id is not None}


def refuse_in_use(used: Mapping[str, str], identities: Iterable[str]) -> None:
    """Raises Problem: 409, a running job works with one of the records."""
    for identity in identities:
        if identity in used:
            raise Problem(409, f"the job {used[identity]} works with {identity}: wait until it has ended, or cancel it")
