"""The template dictionaries of recipes, which steps get when they start.

They are no inputs of the task: Airflow would store these as rendered fields, which every viewer reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ims.connections import api_client, recipe_secrets
from ims.recipes.secrets import TemplateValues, secret_names
from ims.steps.step import Step


def no_secrets(_names: Iterable[str]) -> dict[str, str]:
    """The secrets that a task passes to a pod: none, because they are mounted there."""
    return {}


def with_templates(
    step: Step[Any], data: dict[str, Any], secrets: Callable[[Iterable[str]], dict[str, str]] = recipe_secrets
) -> dict[str, Any]:
    """Returns the input of a step with the template dictionaries of the recipes in it, if the step renders templates.

    `secrets` looks up the secrets that they refer to. Raises MissingError if the recipe of a job does not exist.
    """
    if not step.renders:
        return data
    records = _records(data)
    dictionaries = {
        record["id"]: {item["key"]: item["value"] for item in record["template_dictionary"]} for record in records
    }
    values = TemplateValues(dictionaries=dictionaries, secrets=secrets(secret_names(dictionaries.values())))
    return {**data, "templates": values.model_dump()}


def _records(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The records of the recipes that an input names. A recipe of a plan that was deleted meanwhile is left out."""
    if "recipe_id" in data:
        return [api_client().record("recipes", data["recipe_id"])]
    ids = {recipe["recipe_id"] for recipe in data["recipes"]}
    return [record for record in api_client().get("recipes") if record["id"] in ids] if ids else []
