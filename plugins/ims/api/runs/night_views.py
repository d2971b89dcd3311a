"""Nights as they are answered: runs of `nightly_images`, with what became of each recipe, as Airflow knows it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from ims.api.http.services import RecordsService
from ims.api.runs.airflow import AirflowService
from ims.api.runs.lookup import with_steps
from ims.api.runs.reasons import xcom
from ims.api.runs.runs import Run, run_of
from ims.api.runs.states import TASK_ENDED
from ims.jobs import nightly_run_id
from ims.records.models import Recipe
from ims.records.selection import Selection
from ims.settings import settings
from ims.workflows import BUILD_RECIPES, CHOOSE_BUILDS, CHOOSE_RECIPES, CREATE_IMAGE, FAILURE, PLAN_RECIPES, SUMMARIZE

RESULT = "return_value"
REASON_LENGTH = 500

Status = Literal["queued", "running", "success", "error"]
Outcome = Literal["waiting", "building", "unchanged", "built", "failed"]
_STATUS: dict[str, Status] = {"queued": "queued", "running": "running", "success": "success"}
# Without these there is no night; what else fails is told of a recipe, or stops nothing.
_NEEDED = (CHOOSE_RECIPES, CHOOSE_BUILDS, SUMMARIZE)


class NightRecipe(BaseModel):
    """What became of a recipe in a night, and why it was built or not.

    `failures` counts the nights running that it failed. `image_id` is the image made, or the one that is still current.
    """

    recipe_id: str
    name: str
    outcome: Outcome
    why: str = ""
    reason: str | None = None
    failures: int = 0
    job_id: str | None = None
    image_id: str | None = None
    started: datetime | None = None
    ended: datetime | None = None
    seconds: int | None = None


class PausedRecipe(BaseModel):
    """A recipe that failed too many nights running; setting its `nightly` goes on with it."""

    recipe_id: str
    name: str
    failures: int


class NightSummary(BaseModel):
    """What the task `summarize` keeps."""

    recipes: list[NightRecipe]
    paused: list[PausedRecipe]


class NightOut(NightSummary):
    """A night: when, what was asked for, and what became of it, so far."""

    id: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    status: Status
    force: bool
    built: int
    unchanged: int
    failed: int
    reason: str | None
    log_url: str
    dag_run_id: str


class DescribeNight:
    """Makes answers of runs."""

    def __init__(self, airflow: AirflowService, records: RecordsService) -> None:
        self._airflow = airflow
        self._records = records

    async def one(self, run: Run) -> NightOut:
        """A night. What was summarized is kept; before that all is looked up."""
        kept = await xcom(self._airflow, run, SUMMARIZE, RESULT)
        summary = NightSummary(**kept) if kept is not None else await self._so_far(run)
        outcomes = [recipe.outcome for recipe in summary.recipes]
        return NightOut(
            recipes=summary.recipes,
            paused=summary.paused,
            id=run.job_id,
            created=run.created,
            started=run.started,
            ended=run.ended,
            status=_STATUS.get(run.state, "error"),
            force=bool(run.conf.get("force", False)),
            built=outcomes.count("built"),
            unchanged=outcomes.count("unchanged"),
            failed=outcomes.count("failed"),
            reason=await self._reason(run),
            log_url=settings().run_url(run.dag_id, run.run_id),
            dag_run_id=run.run_id,
        )

    async def _so_far(self, run: Run) -> NightSummary:
        chosen = await xcom(self._airflow, run, CHOOSE_RECIPES, "recipes") or []
        plans = {plan["recipe_id"]: plan for plan in await xcom(self._airflow, run, PLAN_RECIPES, RESULT) or []}
        builds = await xcom(self._airflow, run, CHOOSE_BUILDS, RESULT)
        states = await self._states(run)
        built = [self._built(run, number, build, states.get(number)) for number, build in enumerate(builds or ())]
        found = {recipe.recipe_id: recipe for recipe in await asyncio.gather(*built)}
        recipes = [
            found.get(recipe["recipe_id"]) or _not_built(recipe, plans.get(recipe["recipe_id"], {}), builds is not None)
            for recipe in chosen
        ]
        for recipe in recipes:
            recipe.why = _short(plans.get(recipe.recipe_id, {}).get("reason", ""))
        await run_in_threadpool(self._add_images, recipes)
        return NightSummary(recipes=recipes, paused=await run_in_threadpool(self._paused))

    async def _states(self, run: Run) -> dict[int, str | None]:
        """The states of the builds' tasks, by their numbers."""
        path = f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances"
        items = await self._airflow.pages(path, "task_instances")
        return {item["map_index"]: item["state"] for item in items if item["task_id"] == BUILD_RECIPES}

    async def _built(self, night: Run, number: int, build: Mapping[str, Any], state: str | None) -> NightRecipe:
        """What became of the build with a number, whose task is in a state."""
        recipe = NightRecipe(**build, outcome="waiting")
        job = await self._job(night, number, build["recipe_id"]) if state is not None else None
        if job is not None:
            outcomes: dict[str, Outcome] = {"success": "built", "error": "failed"}
            recipe.outcome = outcomes.get(job.status, "building")
            recipe.reason, recipe.job_id = _short(job.reason), job.job_id
            recipe.started, recipe.ended = job.started, job.ended
            if job.started is not None and job.ended is not None:
                recipe.seconds = round((job.ended - job.started).total_seconds())
        elif state in TASK_ENDED:
            reason = await xcom(self._airflow, night, BUILD_RECIPES, FAILURE, number)
            recipe.outcome, recipe.reason = "failed", _short(reason or "no job was started: the night was cancelled")
        counts: dict[Outcome, int] = {"failed": recipe.failures + 1, "built": 0}
        recipe.failures = counts.get(recipe.outcome, recipe.failures)
        return recipe

    async def _job(self, night: Run, number: int, recipe_id: str) -> Run | None:
        """The run that builds a recipe: one that is shared, or the night's own."""
        own = nightly_run_id(night.run_id, recipe_id)
        shared = await xcom(self._airflow, night, BUILD_RECIPES, "trigger_run_id", number)
        for run_id in (shared, own):
            item = await self._airflow.find(f"dags/{CREATE_IMAGE.dag_id}/dagRuns/{run_id}") if run_id else None
            if item is not None:
                return await with_steps(self._airflow, run_of(item))
        return None

    def _add_images(self, recipes: Iterable[NightRecipe]) -> None:
        jobs = {recipe.job_id: recipe for recipe in recipes if recipe.job_id is not None}
        for job, image in self._records.images_of_jobs(jobs).items():
            jobs[job].image_id = image.id

    def _paused(self) -> list[PausedRecipe]:
        """Of each name only the newest recipe counts."""
        newest = {(recipe.name, recipe.arch): recipe for recipe in self._records.list(Recipe, Selection())}
        return [
            PausedRecipe(recipe_id=recipe.id, name=recipe.name, failures=recipe.nightly_failures)
            for recipe in newest.values()
            if recipe.nightly and recipe.nightly_failures >= settings().nightly_pause_after
        ]

    async def _reason(self, run: Run) -> str | None:
        if run.state != "failed":
            return None
        for task in _NEEDED:
            if (reason := await xcom(self._airflow, run, task, FAILURE)) is not None:
                return f"{task}: {reason}"
        return "the night was cancelled, or a process was killed"


def _not_built(recipe: Mapping[str, Any], plan: Mapping[str, Any], decided: bool) -> NightRecipe:
    """A recipe that is not among the builds: its image is current, or that is not decided yet."""
    outcome: Outcome = "unchanged" if decided else "waiting"
    return NightRecipe(
        recipe_id=recipe["recipe_id"], name=recipe["name"], outcome=outcome, image_id=plan.get("image_id")
    )


def _short(text: str | None) -> Any:
    return text if text is None else text[:REASON_LENGTH]


DescribeNightService = Annotated[DescribeNight, Depends()]
