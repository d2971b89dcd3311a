"""The task that chooses the recipes of a plan or a night."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import Context

from ims.client import ImsClient
from ims.connections import api_client
from ims.errors import MissingError, PermanentError
from ims.nights import RecipeState, due_recipes
from ims.operators.base import ImsOperator, workspace_of
from ims.params import boot_files
from ims.runtime.choice import runtime
from ims.steps.plan_images import RecipeToPlan

log = logging.getLogger("airflow.task")

WORKSPACE_GIB = 1
MAX_RECIPES = 1000
"""Airflow refuses to map a task over more items than `core.max_map_length`, by default 1024."""


class ChooseRecipesOperator(ImsOperator):
    """Looks up the recipes to plan, and opens a workspace for the plan.

    `recipes` are ids. Without ids, the task chooses the newest recipe of each lineage among those that are due. If
    publications started the run, it leaves out the recipes that have an image and whose repositories are known to be
    the same.
    Results: `workspace` and `recipes`, each a RecipeToPlan.
    """

    template_fields = (*ImsOperator.template_fields, "recipes")

    def __init__(self, *, recipes: Any, **arguments: Any) -> None:
        super().__init__(multiple_outputs=True, **arguments)
        self.recipes = recipes

    def perform(self, context: Context) -> dict[str, Any]:
        """Returns the results. A recipe without a link has nothing to build, so it is left out.

        Raises MissingError: none of the recipes that are given by id exists. If only some exist, these are returned.
        """
        client = api_client()
        chosen = self._recipes_by_id(client) if self.recipes else _due_recipes(client)
        recipes = [_to_plan(client, recipe) for recipe in chosen if recipe["link"] is not None]
        if (published := published_repositories(context)) is not None and not self.recipes:
            self.log.info("published or not observed: %s", ", ".join(sorted(published)))
            users = _users_of(client, published)
            recipes = [recipe for recipe in recipes if recipe.image_id is None or recipe.recipe_id in users]
        workspace = runtime().open_workspace(workspace_of(context), WORKSPACE_GIB)
        self.log.info("recipes: %s", ", ".join(recipe.name for recipe in recipes) or "none")
        return {"workspace": str(workspace), "recipes": [recipe.model_dump(mode="json") for recipe in recipes]}

    def _recipes_by_id(self, client: ImsClient) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        missing: list[MissingError] = []
        for identity in self.recipes:
            try:
                found.append(client.record("recipes", identity))
            except MissingError as error:
                self.log.error("%s", error)
                missing.append(error)
        if missing and not found:
            raise missing[0]
        return found


def _due_recipes(client: ImsClient) -> list[dict[str, Any]]:
    """The records of the due recipes. More than Airflow can start at once wait for a later night, the newest first."""
    records = {record["id"]: record for record in client.get("recipes")}
    due = due_recipes(RecipeState(**record) for record in records.values())
    if len(due) > MAX_RECIPES:
        log.warning("only %d of %d recipes are built: the night can start no more", MAX_RECIPES, len(due))
    return [records[recipe.id] for recipe in due[:MAX_RECIPES]]


def published_repositories(context: Context) -> set[str] | None:
    """The repositories whose publications started the run; None if something else did."""
    events = [event for found in (context.get("triggering_asset_events") or {}).values() for event in found]
    payloads = (event.extra.get("payload") for event in events)  # users of Airflow can make events, too
    named = (payload.get("repositories") for payload in payloads if isinstance(payload, dict))
    addresses = (address for found in named if isinstance(found, list) for address in found)
    return set(map(str, addresses)) if events else None


def _users_of(client: ImsClient, published: set[str]) -> set[str]:
    """The ids of the due recipes with one of these repositories, or with repositories that are not observed."""
    changed = {None, *published}
    repositories = client.get("nights/repositories")
    return {recipe for item in repositories if item["index_url"] in changed for recipe in item["recipes"]}


def _to_plan(client: ImsClient, recipe: dict[str, Any]) -> RecipeToPlan:
    try:
        image = client.get(f"recipes/{recipe['id']}/image")
    except PermanentError as error:  # one recipe must not stop the others: it is built
        if not isinstance(error, MissingError):
            log.error("the newest image of %s is not known: %s", recipe["name"], error)
        image = None
    return RecipeToPlan(
        recipe_id=recipe["id"],
        name=recipe["name"],
        path=recipe["link"]["path"],
        arch=recipe["arch"],
        profiles=recipe["profiles"],
        boot_files=boot_files.names({}, recipe),
        image_id=image["id"] if image is not None else None,
        manifest=image["link"]["path"] if image is not None and image["link"] is not None else None,
    )
