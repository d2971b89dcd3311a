"""What a job refers to must exist before the job does. Used by `POST /jobs` and by the door to Airflow's own API."""

from __future__ import annotations

import platform

from pydantic import ValidationError

from ims.api.problems import Problem, field_problem
from ims.errors import MissingError
from ims.jobs import CreateJob
from ims.records.models import PublicKey, Recipe
from ims.records.store import Records


def check(job: CreateJob, records: Records) -> None:
    """Raises Problem: 400, the job names something that is not there or that cannot be built here."""
    try:
        recipe = records.get(Recipe, job.artifact_id)
    except MissingError as error:
        raise field_problem("artifact_id", str(error), 400) from None
    try:
        records.get(PublicKey, job.public_key_id)
    except MissingError as error:
        raise field_problem("public_key_id", str(error), 400) from None
    if recipe.link is None:
        raise field_problem("artifact_id", f"the recipe {recipe.name} has no link to an archive", 400)
    if recipe.recipe_type != "kiwi-ng":
        raise field_problem("artifact_id", f"{recipe.recipe_type} recipes cannot be built, only kiwi-ng", 400)
    if recipe.arch != platform.machine():
        raise field_problem(
            "artifact_id", f"the recipe is for {recipe.arch}, this machine is {platform.machine()}", 400
        )
    if job.enable_debug:
        raise field_problem("enable_debug", "the debug shell is not available yet; leave it false", 400)


def invalid(error: ValidationError, whole: str = "body") -> Problem:
    """The problem for fields that are wrong; `whole` names what they are fields of."""
    errors: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        errors.setdefault(".".join(str(part) for part in item["loc"]) or whole, []).append(item["msg"])
    return Problem(422, "; ".join(f"{name}: {', '.join(texts)}" for name, texts in errors.items()), errors)
