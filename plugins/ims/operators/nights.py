"""The tasks of a night: what of the plan is built, the builds, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.triggers.external_task import DagStateTrigger
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException

from ims.client import ImsClient
from ims.connections import api_client
from ims.errors import InputError, MissingError
from ims.jobs import job_id, nightly_run_id
from ims.operators.errors import task_errors
from ims.workflows import CREATE_IMAGE

POOL = "nightly"
POLL_SECONDS = 5
ENDED = ("built", "unchanged", "failed")


class ChooseBuildsOperator(BaseOperator):
    """Tells what is to be built from what is as it was; of the latter the image is marked as current.

    What has no plan is built: a build too many is only a cost.
    """

    template_fields = ("recipes", "plans")

    def __init__(self, *, recipes: Any, plans: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.recipes = recipes
        self.plans = plans

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Returns {recipe_id, name, failures} of each recipe to build; `failures` are nights that failed before."""
        with task_errors(context):
            if self.recipes is None:
                raise InputError("nobody knows which recipes to build: choose_recipes failed", "See its log")
            client = api_client()
            current = _unchanged(self.plans or ())
            for image_id in current.values():
                client.update(f"images/{image_id}", checked=datetime.now(UTC).isoformat())
            chosen = [recipe for recipe in self.recipes if recipe["recipe_id"] not in current]
            return [self._build(client, recipe) for recipe in chosen]

    @staticmethod
    def _build(client: ImsClient, recipe: Mapping[str, Any]) -> dict[str, Any]:
        record = client.record("recipes", recipe["recipe_id"])
        return {"recipe_id": record["id"], "name": record["name"], "failures": record["nightly_failures"]}


def _unchanged(plans: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Of each recipe that need not be built, the image that is current."""
    return {plan["recipe_id"]: plan["image_id"] for plan in plans if plan["verdict"] == "skip" and plan["image_id"]}


class BuildRecipeOperator(TriggerDagRunOperator):
    """Starts a job for a recipe and waits for it, holding no worker; a job that builds the recipe already is shared.

    The run's id follows from the night and the recipe: a try after a lost worker finds what an earlier one started.
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
        """Hand over to the triggerer."""
        recipe = self.build["recipe_id"]
        own = nightly_run_id(str(context["run_id"]), recipe)
        known: Any = context["ti"]
        with task_errors(context):
            self.trigger_run_id = _running(api_client(), recipe) or own
        if known.get_dr_count(dag_id=CREATE_IMAGE.dag_id, run_ids=[self.trigger_run_id]):
            self.log.info("job %s builds it already", job_id(self.trigger_run_id))
            known.xcom_push("trigger_run_id", self.trigger_run_id)
            ended = [*self.allowed_states, *self.failed_states]
            found = DagStateTrigger(
                CREATE_IMAGE.dag_id, ended, run_ids=[self.trigger_run_id], poll_interval=POLL_SECONDS
            )
            self.defer(trigger=found, method_name="execute_complete")
        self.conf = {"artifact_id": recipe, "image_root_archive_name": self.build["name"]}
        super().execute(context)

    def execute_complete(self, context: Context, event: tuple[str, dict[str, Any]]) -> None:
        """End as the job did; another try would find the same job."""
        with task_errors(context):
            try:
                super().execute_complete(context, event)
            except AirflowException:
                raise InputError(f"the job {job_id(str(self.trigger_run_id))} failed", "See its log") from None


def _running(client: ImsClient, recipe_id: str) -> str | None:
    """The run of a job that builds a recipe and will not wait for anybody; None if there is none."""
    jobs = client.get("jobs", job_type="create", status=list(CREATE_IMAGE.required_statuses))
    found = (job["dag_run_id"] for job in jobs if job["artifact_id"] == recipe_id and not job["enable_debug"])
    return next(found, None)


class SummarizeOperator(BaseOperator):
    """Counts the nights that each recipe failed, and keeps what became of each as this task's result.

    It fails, and with it the night, if a recipe failed.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Returns {recipes, paused}, as `GET /nights/{id}` has them."""
        path = f"nights/{job_id(str(context['run_id']))}"
        with task_errors(context):
            client = api_client()
            for recipe in client.get(path)["recipes"]:
                if recipe["outcome"] in ENDED:
                    _count(client, recipe)
            night = client.get(path)
            summary = {name: night[name] for name in ("recipes", "paused")}
            if failed := [recipe["name"] for recipe in night["recipes"] if recipe["outcome"] == "failed"]:
                context["ti"].xcom_push("return_value", summary)
                names = ", ".join(failed[:10]) + (", …" if len(failed) > 10 else "")
                raise InputError(f"{len(failed)} of {len(night['recipes'])} recipes failed: {names}")
            if night["reason"] is not None:
                raise InputError(night["reason"])
        return summary


def _count(client: ImsClient, recipe: Mapping[str, Any]) -> None:
    """Keep how many nights running a recipe failed: `failures` counts this one already, so doing it twice is safe."""
    with suppress(MissingError):  # somebody deleted it meanwhile
        client.update(f"recipes/{recipe['recipe_id']}", nightly_failures=recipe["failures"])
