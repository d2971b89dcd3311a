"""Nights as the API describes them: runs of `nightly_images` with the result of each recipe."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from ims.api.http.services import RecordsService
from ims.api.runs.airflow import AirflowService
from ims.api.runs.lists import RunFilter, add_steps
from ims.api.runs.night_images import night_images
from ims.api.runs.reasons import blames_recipe, cancellation, is_blamed, out_of_time, xcom
from ims.api.runs.runs import Run, run_of
from ims.api.runs.states import TASK_ENDED
from ims.jobs import nightly_run_id
from ims.nights import Build, BuildResult, NightSummary, RecipeState, paused_recipes, summarize
from ims.records.models import Image, Recipe
from ims.records.selection import Selection
from ims.replays.order import ImageState, paused_images
from ims.settings import settings
from ims.workflows import (
    BUILD_RECIPES,
    CHOOSE_BUILDS,
    CHOOSE_RECIPES,
    CREATE_IMAGE,
    FAILURE,
    PLAN_RECIPES,
    SUMMARIZE,
)

RESULT = "return_value"

Status = Literal["queued", "running", "success", "error"]
_STATUS: dict[str, Status] = {"queued": "queued", "running": "running", "success": "success"}
_NEEDED = (CHOOSE_RECIPES, CHOOSE_BUILDS, SUMMARIZE)
"""The tasks that make a night fail. If another task fails, that shows in a recipe or has no consequence."""


class NightOut(NightSummary):
    """A night: when it ran, what was asked for, and the result of each recipe so far."""

    id: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    status: Status
    force: bool
    built: int
    unchanged: int
    failed: int
    result: str | None = Field(
        description="The result in one line. A night that had nothing to do says why. null: not known yet."
    )
    reason: str | None
    log_url: str
    dag_run_id: str


class DescribeNight:
    """Describes runs of `nightly_images`."""

    def __init__(self, airflow: AirflowService, records: RecordsService) -> None:
        self._airflow = airflow
        self._records = records

    async def one(self, run: Run) -> NightOut:
        """Describes a night: by its stored summary or, before there is one, by the current state of its builds."""
        stored = await xcom(self._airflow, run, SUMMARIZE, RESULT)
        summary = NightSummary(**stored) if stored is not None else await self._so_far(run)
        outcomes = [recipe.outcome for recipe in summary.recipes]
        return NightOut(
            recipes=summary.recipes,
            paused=summary.paused,
            images=summary.images,
            paused_images=summary.paused_images,
            id=run.job_id,
            created=run.created,
            started=run.started,
            ended=run.ended,
            status=_STATUS.get(run.state, "error"),
            force=bool(run.conf.get("force", False)),
            built=outcomes.count("built"),
            unchanged=outcomes.count("unchanged"),
            failed=outcomes.count("failed"),
            result=summary.sentence if summary.results or run.state == "success" else None,
            reason=await self._reason(run),
            log_url=settings().run_url(run.dag_id, run.run_id),
            dag_run_id=run.run_id,
        )

    async def _so_far(self, run: Run) -> NightSummary:
        chosen, plans, found = await asyncio.gather(
            xcom(self._airflow, run, CHOOSE_RECIPES, "recipes"),
            xcom(self._airflow, run, PLAN_RECIPES, RESULT),
            xcom(self._airflow, run, CHOOSE_BUILDS, RESULT),
        )
        builds = None if found is None else [Build(**build) for build in found]
        results = await self._results(run, builds) if builds else []
        recipes = summarize(chosen or (), plans or (), builds, results)
        paused, paused_customizations = await run_in_threadpool(self._paused)
        images = await night_images(self._airflow, run)
        return NightSummary(recipes=recipes, paused=paused, images=images, paused_images=paused_customizations)

    async def _results(self, night: Run, builds: Sequence[Build]) -> list[BuildResult]:
        """Returns the results of the builds that have begun, with one request each for the tasks, runs and steps."""
        tasks = await self._build_tasks(night)
        begun = [(number, build) for number, build in enumerate(builds) if tasks.get(number, {}).get("state")]
        own = await self._runs_since(night)
        runs = await asyncio.gather(*(self._run(night, tasks[number], build, own) for number, build in begun))
        jobs = [run for run in runs if run is not None]
        await add_steps(self._airflow, jobs)
        images = await run_in_threadpool(self._records.images_of_jobs, [run.job_id for run in jobs])
        found = await asyncio.gather(
            *(
                self._result(build, run, images.get(run.job_id))
                if run
                else self._without_job(night, tasks[number], build)
                for (number, build), run in zip(begun, runs, strict=True)
            )
        )
        return [result for result in found if result is not None]

    async def _build_tasks(self, night: Run) -> dict[int, Mapping[str, Any]]:
        """Returns the task instances that build, by their map indexes."""
        items = await self._airflow.search(
            "dags/~/dagRuns/~/taskInstances/list",
            "task_instances",
            dag_ids=[night.dag_id],
            dag_run_ids=[night.run_id],
            task_ids=[BUILD_RECIPES],
        )
        return {item["map_index"]: item for item in items}

    async def _runs_since(self, night: Run) -> dict[str, Run]:
        """Returns the runs of `create_image` since the night began, by their ids."""
        query = RunFilter(workflows=(CREATE_IMAGE.dag_id,), created_after=night.created).body()
        items = await self._airflow.search("dags/~/dagRuns/list", "dag_runs", **query)
        return {item["dag_run_id"]: run_of(item) for item in items}

    async def _run(self, night: Run, task: Mapping[str, Any], build: Build, own: Mapping[str, Run]) -> Run | None:
        """Returns the run that builds a recipe: the night's own or, if the task shares a job, that of the job."""
        run = own.get(nightly_run_id(night.run_id, build.recipe_id))
        if run is not None and task["try_number"] <= 1:
            return run
        shared = await xcom(self._airflow, night, BUILD_RECIPES, "trigger_run_id", task["map_index"])
        if shared is None or (run is not None and run.run_id == shared):
            return run
        item = await self._airflow.find(f"dags/{CREATE_IMAGE.dag_id}/dagRuns/{shared}")
        return run_of(item) if item is not None else run

    async def _without_job(self, night: Run, task: Mapping[str, Any], build: Build) -> BuildResult | None:
        if task["state"] not in TASK_ENDED:
            return None
        reason = await xcom(self._airflow, night, BUILD_RECIPES, FAILURE, task["map_index"])
        reason = reason or "no job was started: the night was cancelled"
        blamed = await is_blamed(self._airflow, night, BUILD_RECIPES, task["map_index"])
        return BuildResult(recipe_id=build.recipe_id, outcome="failed", reason=reason, blames_recipe=blamed)

    async def _result(self, build: Build, run: Run, image: Any) -> BuildResult:
        outcomes: dict[str, Literal["built", "failed"]] = {"success": "built", "error": "failed"}
        return BuildResult(
            recipe_id=build.recipe_id,
            outcome=outcomes.get(run.status, "building"),
            job_id=run.job_id,
            image_id=image.id if image is not None else None,
            reason=run.reason,
            blames_recipe=run.status == "error" and await blames_recipe(self._airflow, run),
            started=run.started,
            ended=run.ended,
        )

    def _paused(self) -> Any:
        recipes, images = self._records.list(Recipe, Selection()), self._records.list(Image, Selection())
        return (
            paused_recipes(RecipeState.model_validate(record) for record in recipes),
            paused_images(ImageState.model_validate(record) for record in images),
        )

    async def _reason(self, run: Run) -> str | None:
        if run.state != "failed":
            return None
        for task in _NEEDED:
            if (reason := await xcom(self._airflow, run, task, FAILURE)) is not None:
                return f"{task}: {reason}"
        noted = await cancellation(self._airflow, run)
        return noted or out_of_time(run) or "the night was cancelled, or a process was killed"


DescribeNightService = Annotated[DescribeNight, Depends()]
