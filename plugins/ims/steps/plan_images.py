"""Plans which recipes have to be built, by comparing each with the build inputs of its newest image."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from pydantic import BaseModel, Field

from ims.builder import inputs
from ims.errors import ImsError, InputError
from ims.masking import masked
from ims.recipes.build_inputs import MAX_BYTES, BuildInputs, Package
from ims.recipes.plan import Decision, PlannedInput, decide, describe_inputs
from ims.recipes.secrets import TemplateValues
from ims.removal import remove
from ims.settings import settings
from ims.steps.fetch_recipe import fetch, use_secrets
from ims.steps.package_prediction import predict_packages
from ims.steps.step import Step, StepInput
from ims.storage.manifest import MAX_BYTES as MAX_MANIFEST
from ims.storage.manifest import PROVENANCE, read_manifest
from ims.storage.objects import ObjectName, ObjectStore
from ims.storage.presence import find_damage
from ims.storage.sessions import READ, Grant, of_buckets
from ims.workspace import Workspace

log = logging.getLogger(__name__)

CONCURRENT_PLANS = 4
LONGEST = 2000
"""The most characters of a reason."""


class RecipeToPlan(BaseModel):
    """A recipe's record, and the newest image of its lineage with the address of its manifest, if there is one.

    `boot_files` are the names of the files that its builds look up in /boot.
    """

    recipe_id: str
    name: str
    path: str
    arch: str
    profiles: list[str] = Field(default_factory=list)
    boot_files: dict[str, str | None]
    image_id: str | None = None
    manifest: str | None = None


class Plan(Decision):
    """The decision about a recipe. `inputs` is empty if there is nothing to compare, or if many recipes are planned."""

    recipe_id: str
    name: str
    image_id: str | None
    inputs: list[PlannedInput] = Field(default_factory=list)


class Input(StepInput):
    """The recipes. With `force`, all are built."""

    recipes: list[RecipeToPlan]
    force: bool = False
    templates: TemplateValues = Field(default_factory=TemplateValues)


def run(step: Input) -> list[Plan]:
    """Returns a plan for each recipe, in their order. A recipe that cannot be compared is built."""
    store = ObjectStore.from_environment()
    if step.force:
        return [_plan(recipe, Decision(verdict="build", reason="the build was forced"), []) for recipe in step.recipes]
    workspaces = [step.workspace.plan(number) for number in range(len(step.recipes))]
    with ThreadPoolExecutor(CONCURRENT_PLANS) as pool:
        return list(pool.map(_planner(store, step), step.recipes, workspaces))


def _planner(store: ObjectStore, step: Input) -> Callable[[RecipeToPlan, Workspace], Plan]:
    indexes = cache(inputs.read_indexes)  # most recipes of a night have the same repositories

    def plan(recipe: RecipeToPlan, workspace: Workspace) -> Plan:
        listed: list[PlannedInput] = []
        try:
            decision, listed = _decide(store, recipe, step, workspace, indexes)
            remove(workspace.root)
        except Exception as error:  # whatever one recipe causes, the others are planned
            why = str(error) if isinstance(error, ImsError) else repr(error)
            decision = Decision(
                verdict="build", reason=f"the recipe cannot be compared with its image: {why}"[:LONGEST]
            )
        log.info("%s: %s: %s", recipe.name, decision.verdict, decision.reason)
        return _plan(recipe, decision, listed if len(step.recipes) == 1 else [])

    return plan


def _plan(recipe: RecipeToPlan, decision: Decision, listed: list[PlannedInput]) -> Plan:
    decision = decision.model_copy(update={"reason": masked(decision.reason)})
    whole = Plan(recipe_id=recipe.recipe_id, name=recipe.name, image_id=recipe.image_id, **decision.model_dump())
    hidden = [item.model_copy(update={"name": masked(item.name), "opaque": masked(item.opaque)}) for item in listed]
    return whole.model_copy(update={"inputs": hidden})


def _decide(
    store: ObjectStore, recipe: RecipeToPlan, step: Input, workspace: Workspace, indexes: inputs.Indexes
) -> tuple[Decision, list[PlannedInput]]:
    """The decision, and all inputs of the build that it is based on."""
    before, reason = _inputs_of_newest_image(store, recipe)
    if before is None:
        return Decision(verdict="build", reason=reason), []
    remove(workspace.root)
    workspace.root.mkdir(parents=True)
    variables = use_secrets(step.templates, recipe.recipe_id, workspace)
    profiles = recipe.profiles
    rendered = fetch(store, recipe.path, variables, workspace, recipe.arch, profiles, only_reading=True).recipe
    now = inputs.collect(rendered, recipe.arch, recipe.boot_files, indexes)

    def resolve() -> Sequence[Package]:
        return predict_packages(workspace, rendered, now)

    decision = decide(before, now, resolve)
    return decision, describe_inputs(before, now, decision)


def _inputs_of_newest_image(store: ObjectStore, recipe: RecipeToPlan) -> tuple[BuildInputs | None, str]:
    """The build inputs of the newest image, or None and the reason that they are unknown or that it is damaged."""
    if recipe.manifest is None:
        return None, "the recipe has no image yet"
    buckets = settings().buckets
    try:
        name = ObjectName.parse(recipe.manifest, buckets)
        manifest = read_manifest(store.read_bytes(name, MAX_MANIFEST), name, buckets)
        if (damage := find_damage(store, manifest)) is not None:
            return None, f"the newest image is not complete: {damage}"
        found = manifest.of_type(PROVENANCE)
        if len(found) != 1:
            return None, "the newest image does not state its build inputs"
        return BuildInputs.read(store.read_bytes(ObjectName.parse(found[0].link.path), MAX_BYTES)), ""
    except InputError as error:
        return None, f"the build inputs of the newest image cannot be read: {error}"


def grants(_step: Input, _store: ObjectStore) -> list[Grant]:
    """The step reads many recipes, manifests and build inputs: too many to name them in a policy."""
    return [of_buckets(settings().buckets, READ)]


STEP = Step("plan_images", Input, run, s3=grants, privileged=True, renders=True)
