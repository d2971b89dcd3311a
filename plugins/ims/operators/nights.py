"""The tasks of a night: choosing the builds, building, and summarizing the result of each recipe."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.triggers.external_task import DagStateTrigger
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException

from ims.client import ImsClient
from ims.connections import api_client
from ims.errors import MissingError, PermanentError
from ims.jobs import job_id, nightly_run_id
from ims.nights import ENDED, Build, NightImage, NightRecipe, NightSummary, RecipeState, paused_recipes
from ims.operators.base import ImsOperator
from ims.operators.errors import task_errors, time_limit
from ims.operators.failures import count_failures
from ims.operators.plan import published_repositories
from ims.operators.replays import count_image_failures, end_images
from ims.params import boot_files
from ims.workflows import CREATE_IMAGE

log = logging.getLogger("airflow.task")

POLL_SECONDS = 5
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


class BuildRecipeOperator(TriggerDagRunOperator):
    """Starts a job for a recipe and waits until it ends, without a worker. Shares a job that already builds the recipe.

    If publications started the night, it shares none: a job that runs may have read the repositories before.

    The run id follows from the night and the recipe: after a worker was lost, the next try finds the job of the last.
    """

    template_fields = (*TriggerDagRunOperator.template_fields, "build")

    def __init__(self, *, build: Any, **arguments: Any) -> None:
        super().__init__(
            trigger_dag_id=CREATE_IMAGE.dag_id,
            logical_date=None,
            wait_for_completion=True,
            deferrable=True,
            poke_interval=POLL_SECONDS,
            **arguments,
        )
        self.build = build

    def execute(self, context: Context) -> None:
        """Starts or finds the job; the triggerer waits for it."""
        recipe = self.build["recipe_id"]
        own = nightly_run_id(str(context["run_id"]), recipe)
        task_instance: Any = context["ti"]
        build = Build(**self.build)
        with task_errors(context), time_limit(self, context):
            shares = not build.force and published_repositories(context) is None
            shared = _running_build(api_client(), build) if shares else None
            self.trigger_run_id = shared or own
        if task_instance.get_dr_count(dag_id=CREATE_IMAGE.dag_id, run_ids=[self.trigger_run_id]):
            self.log.info("job %s already builds the recipe", job_id(self.trigger_run_id))
            task_instance.xcom_push("trigger_run_id", self.trigger_run_id)
            self._wait(self.trigger_run_id)
        self.conf = {"artifact_id": recipe, "image_root_archive_name": build.name, "force": build.force}
        super().execute(context)

    def _wait(self, run_id: str) -> None:
        states = [*self.allowed_states, *self.failed_states]
        trigger = DagStateTrigger(CREATE_IMAGE.dag_id, states, run_ids=[run_id], poll_interval=POLL_SECONDS)
        self.defer(trigger=trigger, method_name="execute_complete")

    def execute_complete(self, context: Context, event: tuple[str, dict[str, Any]]) -> None:
        """Ends as the job did. The error is permanent, because another try would find the same job."""
        with task_errors(context):
            try:
                super().execute_complete(context, event)
            except AirflowException:
                raise PermanentError(f"the job {job_id(str(self.trigger_run_id))} failed", "See its log") from None


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
