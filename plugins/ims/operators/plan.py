"""The task that chooses the recipes of a plan or a night."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Context

from ims.client import ImsClient
from ims.connections import api_client
from ims.errors import MissingError
from ims.jobs import job_id
from ims.lineage import newest_of_lineages
from ims.nights import RecipeState
from ims.operators.base import ImsOperator
from ims.runtime.choice import runtime
from ims.steps.plan_images import RecipeToPlan

WORKSPACE_GIB = 1


class ChooseRecipesOperator(ImsOperator):
    """Looks up the recipes to plan, and opens a workspace for the plan.

    `recipes` are ids. Without ids, the task chooses the newest recipe of each lineage among those that are due.
    Results: `workspace` and `recipes`, each a RecipeToPlan.
    """

    template_fields = (*ImsOperator.template_fields, "recipes")

    def __init__(self, *, recipes: Any, **arguments: Any) -> None:
        super().__init__(multiple_outputs=True, **arguments)
        self.recipes = recipes

    def perform(self, context: Context) -> dict[str, Any]:
        """Returns the results. A recipe without a link has nothing to build, so it is left out."""
        client = api_client()
        chosen = [client.record("recipes", identity) for identity in self.recipes or ()] or _due_recipes(client)
        recipes = [_to_plan(client, recipe) for recipe in chosen if recipe["link"] is not None]
        workspace = runtime().open_workspace(job_id(str(context["run_id"])), WORKSPACE_GIB)
        self.log.info("recipes: %s", ", ".join(recipe.name for recipe in recipes) or "none")
        return {"workspace": str(workspace), "recipes": [recipe.model_dump(mode="json") for recipe in recipes]}


def _due_recipes(client: ImsClient) -> list[dict[str, Any]]:
    records = client.get("recipes")
    due = newest_of_lineages(recipe for record in records if (recipe := RecipeState(**record)).is_due)
    ids = {recipe.id for recipe in due}
    return [record for record in records if record["id"] in ids]


def _to_plan(client: ImsClient, recipe: dict[str, Any]) -> RecipeToPlan:
    try:
        image = client.get(f"recipes/{recipe['id']}/image")
    except MissingError:
        image = None
    return RecipeToPlan(
        recipe_id=recipe["id"],
        name=recipe["name"],
        path=recipe["link"]["path"],
        variables={item["key"]: item["value"] for item in recipe["template_dictionary"]},
        arch=recipe["arch"],
        image_id=image["id"] if image is not None else None,
        manifest=image["link"]["path"] if image is not None and image["link"] is not None else None,
    )
