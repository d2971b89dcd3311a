"""`POST /recipes/{id}/plan`: whether a recipe has to be built, as the workflow `plan_images` tells it."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from ims.api.http.auth import may_write
from ims.api.http.problems import Problem, field_problem
from ims.api.http.schemas import Id
from ims.api.http.services import RecordsService
from ims.api.runs.airflow import AirflowApi, AirflowService
from ims.api.runs.runs import Run, run_of, xcom
from ims.records.models import Recipe
from ims.workflows import FAILURE, PLAN_IMAGES, PLAN_RECIPES

router = APIRouter(prefix="/recipes", tags=["recipes"])

SECONDS = 600


class PlanOut(BaseModel):
    """A verdict, the fields that differ from what the newest image was built from, and which packages do."""

    recipe_id: str
    name: str
    verdict: Literal["skip", "repack", "build"]
    reason: str
    differs: list[str]
    packages: list[str]
    image_id: str | None


@router.post("/{id}/plan", dependencies=[may_write()], response_model=PlanOut)
async def plan_recipe(identity: Id, airflow: AirflowService, records: RecordsService) -> Any:
    """Tell whether building the recipe would make another image than its newest one, and why. Nothing is built."""
    recipe = await run_in_threadpool(records.get, Recipe, identity)
    if recipe.link is None:
        raise field_problem("link", f"{recipe.name} has no link to an object in S3", 400)
    wanted = {"dag_run_id": str(uuid.uuid4()), "logical_date": None, "conf": {"recipes": [identity]}}
    run = run_of(await airflow.call("POST", f"dags/{PLAN_IMAGES.dag_id}/dagRuns", json=wanted))
    try:
        async with asyncio.timeout(SECONDS):
            return await _answer(airflow, run)
    except TimeoutError:
        raise Problem(503, f"the plan is not there after {SECONDS} s; its run is {run.run_id}") from None


async def _answer(airflow: AirflowApi, run: Run) -> Any:
    path = f"dags/{PLAN_IMAGES.dag_id}/dagRuns/{run.run_id}"
    state, results = "", None
    async for line in airflow.lines(f"{path}/wait", params={"interval": 0.5, "result": PLAN_RECIPES}):
        message = json.loads(line)
        state, results = message["state"], message.get("results") or results
    if state == "success" and results is not None:
        return results[PLAN_RECIPES][0]
    reason = await xcom(airflow, run, PLAN_RECIPES, FAILURE)
    raise Problem(503, f"the plan failed: {'see the log of its run' if reason is None else reason} ({run.run_id})")
