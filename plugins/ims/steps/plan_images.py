"""Whether recipes have to be built: each compared with what its newest image was built from."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel

from ims.errors import ImsError, InputError
from ims.recipes.description import read_description
from ims.recipes.plan import Decision, decide
from ims.recipes.provenance import MAX_BYTES, Package, Provenance
from ims.steps import provenance
from ims.steps.fetch_recipe import fetch
from ims.steps.step import Step, StepInput
from ims.storage.manifest import MAX_BYTES as MAX_MANIFEST
from ims.storage.manifest import PROVENANCE, read_manifest
from ims.storage.objects import ObjectName, ObjectStore
from ims.workspace import Workspace

log = logging.getLogger(__name__)

AT_ONCE = 4


class RecipeToPlan(BaseModel):
    """A recipe's record, and the newest image that was built from it with the address of its manifest, if any."""

    recipe_id: str
    name: str
    path: str
    variables: dict[str, str]
    arch: str
    image_id: str | None = None
    manifest: str | None = None


class Plan(Decision):
    """A decision, and whom it is of."""

    recipe_id: str
    name: str
    image_id: str | None


class Input(StepInput):
    """The recipes to look at, and the names that their builds would look up in /boot. With `force` all are built."""

    recipes: list[RecipeToPlan]
    boot_files: dict[str, str | None]
    force: bool = False


def run(step: Input) -> list[dict[str, Any]]:
    """Returns a plan a recipe, in their order. What goes wrong with one is a reason to build it."""
    store = ObjectStore.from_environment()
    if step.force:
        return [_plan(recipe, Decision(verdict="build", reason="it was asked for")) for recipe in step.recipes]
    workspaces = [step.workspace.plan(number) for number in range(len(step.recipes))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(_planner(store, step.boot_files), step.recipes, workspaces))


def _planner(
    store: ObjectStore, boot_files: dict[str, str | None]
) -> Callable[[RecipeToPlan, Workspace], dict[str, Any]]:
    def plan(recipe: RecipeToPlan, workspace: Workspace) -> dict[str, Any]:
        try:
            decision = _decide(store, recipe, boot_files, workspace)
        except ImsError as error:
            decision = Decision(verdict="build", reason=f"it cannot be told whether it changed: {error}")
        shutil.rmtree(workspace.root, ignore_errors=True)
        log.info("%s: %s: %s", recipe.name, decision.verdict, decision.reason)
        return _plan(recipe, decision)

    return plan


def _plan(recipe: RecipeToPlan, decision: Decision) -> dict[str, Any]:
    return Plan(
        recipe_id=recipe.recipe_id, name=recipe.name, image_id=recipe.image_id, **decision.model_dump()
    ).model_dump()


def _decide(
    store: ObjectStore, recipe: RecipeToPlan, boot_files: dict[str, str | None], workspace: Workspace
) -> Decision:
    before, why = _last(store, recipe)
    if before is None:
        return Decision(verdict="build", reason=why)
    shutil.rmtree(workspace.root, ignore_errors=True)
    workspace.root.mkdir(parents=True)
    fetch(store, recipe.path, recipe.variables, workspace)
    now = provenance.gather(workspace.recipe, read_description(workspace.recipe), recipe.arch, boot_files)

    def resolve() -> Sequence[Package]:
        return provenance.packages(workspace, now)

    return decide(before, now, resolve)


def _last(store: ObjectStore, recipe: RecipeToPlan) -> tuple[Provenance | None, str]:
    """What the newest image was built from; None and why that is not known."""
    if recipe.manifest is None:
        return None, "there is no image of it"
    name = ObjectName.parse(recipe.manifest)
    try:
        found = read_manifest(store.read_bytes(name, MAX_MANIFEST), name).of_type(PROVENANCE)
        if len(found) != 1:
            return None, "its newest image does not say what it was built from"
        return Provenance.read(store.read_bytes(ObjectName.parse(found[0].link.path), MAX_BYTES)), ""
    except InputError as error:
        return None, f"what its newest image was built from cannot be read: {error}"


STEP = Step("plan_images", Input, run, s3=True)
