"""What running jobs use and create."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ims.api.runs.airflow import AirflowApi
from ims.api.runs.reasons import xcom
from ims.api.runs.runs import run_of
from ims.api.runs.states import RUN_NOT_ENDED
from ims.jobs import job_id
from ims.records.holds import Holds
from ims.workflows import OPEN_WORKSPACE

_FIELDS = ("artifact_id", "public_key_id", "playbook")


async def running_jobs(airflow: AirflowApi) -> list[dict[str, Any]]:
    """The queued and running runs of all workflows, as Airflow describes them: each may have a workspace."""
    return await airflow.search("dags/~/dagRuns/list", "dag_runs", states=RUN_NOT_ENDED)


def used_by(runs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Maps the ids of the records and the addresses of the objects that runs use to one of these jobs."""
    return {
        str(value): job_id(run["dag_run_id"])
        for run in runs
        for field in _FIELDS
        if (value := (run["conf"] or {}).get(field)) is not None
    }


async def holds_of_jobs(airflow: AirflowApi) -> Holds:
    """The holds that running jobs put on records."""
    return Holds(used_by(await running_jobs(airflow)))


async def images_in_progress(airflow: AirflowApi, runs: Sequence[Mapping[str, Any]]) -> set[str]:
    """The ids of the images that runs have chosen and upload, or will upload."""
    found = await asyncio.gather(*(xcom(airflow, run_of(run), OPEN_WORKSPACE, "image_id") for run in runs))
    return {str(image_id) for image_id in found if image_id is not None}
