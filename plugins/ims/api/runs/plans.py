"""`POST /recipes/{id}/plan`: whether a recipe must be built, which the workflow `plan_images` finds out."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from ims.api.http.auth import may_write
from ims.api.http.schemas import Id
from ims.api.http.services import RecordsService
from ims.api.runs.airflow import AirflowApi, AirflowService
from ims.api.runs.job_checks import check_link
from ims.api.runs.reasons import xcom
from ims.api.runs.runs import Run, run_of
from ims.errors import UnavailableError
from ims.recipes.plan import PlannedInput
from ims.records.models import Recipe
from ims.workflows import FAILURE, PLAN_IMAGES, PLAN_RECIPES

router = APIRouter(prefix="/recipes", tags=["recipes"])

PLAN_TIMEOUT_SECONDS = 600


class PlanOut(BaseModel):
    """The verdict, and the build inputs and packages that differ from those of the newest image."""

    recipe_id: str
    name: str
    verdict: Literal["skip", "repack", "build"]
    reason: str
    differs: list[str]
    packages: list[str]
    image_id: str | None
    inputs: list[PlannedInput] = Field(
        default_factory=list, description="All inputs of a build. Empty if there is no image to compare with."
    )


@router.post("/{id}/plan", dependencies=[may_write()], response_model=PlanOut)
async def plan_recipe(identity: Id, airflow: AirflowService, records: RecordsService) -> Any:
    """Plan a recipe: would a build make an image different from the newest one, and why? Nothing is built."""
    recipe = await run_in_threadpool(records.get, Recipe, identity)
    check_link(recipe, "link")
    body = {"dag_run_id": str(uuid.uuid4()), "logical_date": None, "conf": {"recipes": [identity]}}
    run = run_of(await airflow.call("POST", f"dags/{PLAN_IMAGES.dag_id}/dagRuns", json=body))
    try:
        async with asyncio.timeout(PLAN_TIMEOUT_SECONDS):
            return await _answer(airflow, run)
    except TimeoutError:
        raise UnavailableError(f"the plan took longer than {PLAN_TIMEOUT_SECONDS} s; its run is {run.run_id}") from None


async def _answer(airflow: AirflowApi, run: Run) -> Any:
    path = f"dags/{PLAN_IMAGES.dag_id}/dagRuns/{run.run_id}"
    state, results = "", None
    async for line in airflow.lines(f"{path}/wait", params={"interval": 0.5, "result": PLAN_RECIPES}):
        message = json.loads(line)
        state, results = message["state"], message.get("results") or results
    if state == "success" and results is not None:
        return results[PLAN_RECIPES][0]
    reason = await xcom(airflow, run, PLAN_RECIPES, FAILURE)
    raise UnavailableError(f"the plan failed: {reason or 'see the log of its run'} ({run.run_id})")
