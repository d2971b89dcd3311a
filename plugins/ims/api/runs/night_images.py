"""The results of customized images in a night."""

from __future__ import annotations

import asyncio

from ims.api.runs.airflow import AirflowApi
from ims.api.runs.lookup import find_job
from ims.api.runs.reasons import blames_recipe, xcom
from ims.api.runs.runs import Run
from ims.nights import NightImage
from ims.workflows import CHOOSE_IMAGES, REPLAY_IMAGES

RESULT = "return_value"


async def night_images(airflow: AirflowApi, night: Run) -> list[NightImage]:
    """Returns the results so far, each with the number of nights that its image failed by its own fault."""
    found = await xcom(airflow, night, REPLAY_IMAGES, RESULT)
    if found is None:
        found = await xcom(airflow, night, CHOOSE_IMAGES, RESULT)
    return await asyncio.gather(*(_counted(airflow, NightImage(**item)) for item in found or ()))


async def _counted(airflow: AirflowApi, result: NightImage) -> NightImage:
    if result.outcome in ("built", "unchanged"):
        result.failures = 0
    elif result.outcome == "failed" and result.dag_run_id is not None:
        job = await find_job(airflow, result.dag_run_id)
        result.failures += job is not None and await blames_recipe(airflow, job)
    return result
