"""The tasks of a night: choosing the builds, building, and summarizing the result of each recipe."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunLink
from airflow.sdk import Context

from ims.client import ImsClient
from ims.connections import api_client
from ims.errors import MissingError, PermanentError
from ims.jobs import job_id, nightly_run_id
from ims.nights import ENDED, Build, NightImage, NightRecipe, NightSummary, RecipeState, paused_recipes
from ims.operators.base import ImsOperator
from ims.operators.failures import count_failures
from ims.operators.plan import published_repositories
from ims.operators.replays import count_image_failures, end_images
from ims.operators.runs import start_run
from ims.params import boot_files
from ims.triggers.jobs import JobEndTrigger
from ims.workflows import CREATE_IMAGE, ENVIRONMENT_FAILED

log = logging.getLogger("airflow.task")

NAMES_SHOWN = 10


class ChooseBuildsOperator(ImsOperator):
    """Decides which recipes to build, and marks the images of the other recipes as checked.

    A recipe without a plan is built: an unnecessary build only costs time. With `force`, the builds use nothing of
    earlier ones.
    """

    template_fields = (*ImsOperator.template_fields, "recipes", "plans", "force")

    def __init__(self, *, recipes: Any, plans: Any, force: Any = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.recipes = recipes
        self.plans = plans
        self.force = force

    def perform(self, _context: Context) -> list[dict[str, Any]]:
        """Returns an `ims.nights.Build` for each recipe to build."""
        if self.recipes is None:
            raise PermanentError("the recipes to build are not known: choose_recipes failed", "See its log")
        client = api_client()
        current = _current_images(self.plans or ())
        kept = {recipe for recipe, image_id in current.items() if _mark_checked(client, image_id)}
        chosen = [recipe for recipe in self.recipes if recipe["recipe_id"] not in kept]
        return [build.model_dump() | {"force": bool(self.force)} for build in _builds(client, chosen)]


def _mark_checked(client: ImsClient, image_id: str) -> bool:
    """Mark an image as checked; returns whether it still exists."""
    try:
        client.update(f"images/{image_id}", checked=datetime.now(UTC).isoformat())
    except MissingError:
        log.warning("the image %s was deleted meanwhile: its recipe is built", image_id)
        return False
    except PermanentError as error:  # one image must not stop the others
        log.error("the image %s is not marked as checked: %s", image_id, error)
    return True


def _builds(client: ImsClient, recipes: Collection[Mapping[str, Any]]) -> Iterator[Build]:
    """The builds of recipes. The job of a recipe that was deleted meanwhile fails, with that reason."""
    records = {record["id"]: record for record in client.get("recipes")} if recipes else {}
    for recipe in recipes:
        record = records.get(recipe["recipe_id"], {})
        failures = record.get("nightly_failures", 0)
        yield Build(
            recipe_id=recipe["recipe_id"],
            name=recipe["name"],
            failures=failures,
            boot_files=boot_files.names({}, record),
        )


def _current_images(plans: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Returns the current images of the recipes that need no build, by the ids of the recipes."""
    return {plan["recipe_id"]: plan["image_id"] for plan in plans if plan["verdict"] == "skip" and plan["image_id"]}


class BuildRecipeOperator(ImsOperator):
    """Starts a job for a recipe and waits until it ends, without a worker. Shares a job that already builds the recipe.

    If publications started the night, it shares none: a job that runs may have read the repositories before.

    The run id follows from the night and the recipe: after a worker was lost, the next try finds the job of the last.
    """

    template_fields = (*ImsOperator.template_fields, "build")
    operator_extra_links = (TriggerDagRunLink(),)
    trigger_dag_id = CREATE_IMAGE.dag_id

    def __init__(self, *, build: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.build = build

    def perform(self, context: Context) -> None:
        """Starts or finds the job; the triggerer waits for it."""
        build = Build(**self.build)
        shares = not build.force and published_repositories(context) is None
        run_id = _running_build(api_client(), build) if shares else None
        run_id = run_id or nightly_run_id(str(context["run_id"]), build.recipe_id)
        if _count(context, run_id):
            self.log.info("job %s already builds the recipe", job_id(run_id))
        else:
            start_run(self.trigger_dag_id, run_id, _conf(build))
        context["ti"].xcom_push("trigger_run_id", run_id)
        trigger = JobEndTrigger(self.trigger_dag_id, [run_id])
        self.defer(trigger=trigger, method_name="resume", kwargs={"run_id": run_id})

    def resume(self, context: Context, event: Any, run_id: str) -> None:
        """Ends as the job did. The error is permanent, because another try would find the same job or start another."""
        self.log.info("job %s has ended: %s", job_id(run_id), event)
        if _count(context, run_id, states=["success"]):
            return
        context["ti"].xcom_push(ENVIRONMENT_FAILED, True)  # whether the recipe is to blame follows from its job
        if _count(context, run_id):
            raise PermanentError(f"the job {job_id(run_id)} failed", "See its log")
        raise PermanentError(f"the job {job_id(run_id)} was deleted")


def _conf(build: Build) -> dict[str, Any]:
    """The parameters of the job that builds a recipe."""
    return {"artifact_id": build.recipe_id, "image_root_archive_name": build.name, "force": build.force}


def _count(context: Context, run_id: str, **states: list[str]) -> int:
    """1 if there is a run of the workflow with this id and one of the states, else 0."""
    task_instance: Any = context["ti"]
    return int(task_instance.get_dr_count(dag_id=CREATE_IMAGE.dag_id, run_ids=[run_id], **states))


def _running_build(client: ImsClient, build: Build) -> str | None:
    """Returns the run of a job that builds a recipe as a night does and does not wait for a user, or None."""
    jobs = client.get("jobs", job_type="create", status=list(CREATE_IMAGE.required_statuses))
    return next((job["dag_run_id"] for job in jobs if _is_same(job, build)), None)


def _is_same(job: Mapping[str, Any], build: Build) -> bool:
    """Whether a job makes the image that a night would make."""
    kernel = build.boot_files["kernel_file_name"] or boot_files.default_kernel(job["arch"])
    names = {**build.boot_files, "kernel_file_name": kernel}
    is_alike = all(job[field] == name for field, name in names.items())
    return job["artifact_id"] == build.recipe_id and is_alike and not job["enable_debug"] and not job["profiles"]


class SummarizeOperator(ImsOperator):
    """Records how many nights in a row each recipe failed, and keeps the summary of the night as its result.

    It does the same for customized images. The task fails, and with it the night, if a recipe or an image failed, or if
    the night ended before it chose `builds` and `images`.
    """

    template_fields = (*ImsOperator.template_fields, "builds", "images")

    def __init__(self, *, builds: Any, images: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.builds = builds
        self.images = images

    def perform(self, context: Context) -> dict[str, Any]:
        """Returns an `ims.nights.NightSummary`."""
        if self.builds is None:
            raise PermanentError("no recipe was built: an earlier task failed", "See the log of the first that failed")
        client = api_client()
        summary = NightSummary(**client.get(f"nights/{job_id(str(context['run_id']))}"))
        counts = {recipe.recipe_id: recipe.failures for recipe in summary.recipes if recipe.outcome in ENDED}
        summary.paused = paused_recipes(count_failures(client, "recipes", RecipeState, counts))
        end_images(summary.images)
        summary.paused_images = count_image_failures(client, summary.images)
        result = summary.model_dump(mode="json")
        self.log.info("%s", summary.sentence)
        failures = [_failed("recipes", summary.recipes), _failed("customized images", summary.images)]
        if self.images is None:
            failures.append("no customization was repeated: choose_images failed")
        if found := "; ".join(filter(None, failures)):
            context["ti"].xcom_push("return_value", result)
            raise PermanentError(found)
        return result


def _failed(what: str, results: Sequence[NightRecipe] | Sequence[NightImage]) -> str:
    """Which of the results failed; empty if none did."""
    failed = [result.name for result in results if result.outcome == "failed"]
    names = ", ".join(failed[:NAMES_SHOWN]) + (", …" if len(failed) > NAMES_SHOWN else "")
    return f"{len(failed)} of {len(results)} {what} failed: {names}" if failed else ""
