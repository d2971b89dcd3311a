"""Tasks around the step `plan_images`: which recipes to look at, and a workspace for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow.sdk import BaseOperator, Context

from ims.client import ImsClient
from ims.connections import api_client
from ims.errors import MissingError
from ims.jobs import job_id
from ims.operators.errors import task_errors
from ims.runtime.choice import runtime
from ims.settings import settings

WORKSPACE_GIB = 1


class ChooseRecipesOperator(BaseOperator):
    """Looks up the recipes to plan, and opens a workspace for that.

    `recipes` are ids; without any, the recipes that are built nightly and not paused. Of several with the same name
    and architecture only the newest counts: pushing a folder again makes a new one.
    Results: `workspace` and `recipes`, each as `ims.steps.plan_images.RecipeToPlan` wants it.
    """

    template_fields = ("recipes",)

    def __init__(self, *, recipes: Any, **arguments: Any) -> None:
        super().__init__(multiple_outputs=True, **arguments)
        self.recipes = recipes

    def execute(self, context: Context) -> dict[str, Any]:
        """Returns what the other tasks need to know."""
        with task_errors(context):
            client = api_client()
            if self.recipes:
                chosen = [client.record("recipes", identity) for identity in self.recipes]
            else:
                chosen = newest(filter(_is_due, client.get("recipes")))
            recipes = [_to_plan(client, recipe) for recipe in chosen if recipe["link"] is not None]
            workspace = runtime().open_workspace(job_id(str(context["run_id"])), WORKSPACE_GIB)
        self.log.info("recipes: %s", ", ".join(recipe["name"] for recipe in recipes) or "none")
        return {"workspace": str(workspace), "recipes": recipes}


class RemoveWorkspaceOperator(BaseOperator):
    """Removes the workspace of a run that makes no image."""

    def execute(self, context: Context) -> None:
        """None there is no error."""
        with task_errors(context):
            runtime().close_workspace(job_id(str(context["run_id"])))


def newest(recipes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the recipes with one name and architecture the last; they are given in the order of making."""
    return list({(recipe["name"], recipe["arch"]): recipe for recipe in recipes}.values())


def _is_due(recipe: dict[str, Any]) -> bool:
    return bool(recipe["nightly"]) and recipe["nightly_failures"] < settings().nightly_pause_after


def _to_plan(client: ImsClient, recipe: dict[str, Any]) -> dict[str, Any]:
    try:
        image = client.get(f"recipes/{recipe['id']}/image")
    except MissingError:
        image = None
    return {
        "recipe_id": recipe["id"],
        "name": recipe["name"],
        "path": recipe["link"]["path"],
        "variables": {item["key"]: item["value"] for item in recipe["template_dictionary"]},
        "arch": recipe["arch"],
        "image_id": image["id"] if image is not None else None,
        "manifest": image["link"]["path"] if image is not None and image["link"] is not None else None,
    }
