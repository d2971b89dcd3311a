"""`POST /recipes/{id}/plan`: whether a recipe has to be built, as the workflow `plan_images` tells it."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from ims.api.access import may_write
from ims.api.airflow import AirflowApi, AirflowService
from ims.api.problems import Problem, field_problem
from ims.api.runs import FAILURE
from ims.api.schemas import Id
from ims.api.services import RecordsService
from ims.records.models import Recipe

router = APIRouter(prefix="/recipes", tags=["recipes"])

WORKFLOW = "plan_images"
TASK = "plan_images"
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
    run_id = str(uuid.uuid4())
    run = {"dag_run_id": run_id, "logical_date": None, "conf": {"recipes": [identity]}}
    await airflow.call("POST", f"dags/{WORKFLOW}/dagRuns", json=run)
    try:
        async with asyncio.timeout(SECONDS):
            return await _answer(airflow, run_id)
    except TimeoutError:
        raise Problem(503, f"the plan is not there after {SECONDS} s; its run is {run_id}") from None


async def _answer(airflow: AirflowApi, run_id: str) -> Any:
    path = f"dags/{WORKFLOW}/dagRuns/{run_id}"
    state, results = "", None
    async for line in airflow.lines(f"{path}/wait", params={"interval": 0.5, "result": TASK}):
        message = json.loads(line)
        state, results = message["state"], message.get("results") or results
    if state == "success" and results is not None:
        return results[TASK][0]
    entry = await airflow.find(f"{path}/taskInstances/{TASK}/xcomEntries/{FAILURE}")
    raise Problem(
        503, f"the plan failed: {entry['value'] if entry is not None else 'see the log of its run'} ({run_id})"
    )
