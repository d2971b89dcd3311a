"""Nights: which recipes are due, and the result of each recipe of a night.

The functions are pure: the tasks of a night and `GET /nights/{id}` look up what they work on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ims.lineage import newest_of_lineages
from ims.settings import settings

Outcome = Literal["waiting", "building", "unchanged", "built", "failed"]
ENDED: tuple[Outcome, ...] = ("failed", "built", "unchanged")
"""The outcomes of recipes that a night is done with."""
_SHOWN = (*ENDED, "skipped", "building", "waiting")
REASON_LENGTH = 500


class RecipeState(BaseModel):
    """What decides whether a recipe is due: taken from a record or from the API's description of it."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    arch: str
    nightly: bool
    nightly_failures: int
    link: dict[str, Any] | None

    @property
    def is_due(self) -> bool:
        """Whether the next night builds the recipe, if its image would change."""
        return self.nightly and not self._failed_too_often

    @property
    def is_paused(self) -> bool:
        """Whether nights skip the recipe because it failed too many times in a row."""
        return self.nightly and self._failed_too_often

    @property
    def _failed_too_often(self) -> bool:
        return self.nightly_failures >= settings().nightly_pause_after


class Build(BaseModel):
    """A recipe that a night builds; `failures` counts the nights in a row that it failed before this one.

    `boot_files` are the names of the files in /boot that its jobs look up. With `force`, nothing of an earlier build is
    used.
    """

    recipe_id: str
    name: str
    failures: int
    force: bool = False
    boot_files: dict[str, str | None] = Field(default_factory=dict)


class BuildResult(BaseModel):
    """How the build of a recipe goes; `job_id` is None if it ended before a job was started.

    `blames_recipe` is whether the recipe made the build fail. Otherwise a service, the installation or a cancellation
    did, which says nothing about the recipe.
    """

    recipe_id: str
    outcome: Literal["building", "built", "failed"]
    job_id: str | None = None
    image_id: str | None = None
    reason: str | None = None
    blames_recipe: bool = True
    started: datetime | None = None
    ended: datetime | None = None


class NightRecipe(BaseModel):
    """The result of a recipe in a night, and why it was built or not.

    `failures` counts the nights in a row that it failed through its own fault. `image_id` is the new image, or the one
    that is still current.
    """

    recipe_id: str
    name: str
    outcome: Outcome
    why: str = ""
    reason: str | None = None
    failures: int = 0
    job_id: str | None = None
    image_id: str | None = None
    started: datetime | None = None
    ended: datetime | None = None
    seconds: int | None = None


class NightImage(BaseModel):
    """The result of a customized image in a night, and why its customization was repeated or not.

    `source_id` is the image whose script or playbook is repeated, `parent_id` the image that it runs on, `image_id` the
    new image or the one that is still current. `failures` counts the nights in a row that it failed by its own fault.
    """

    source_id: str
    name: str
    outcome: Outcome | Literal["skipped"] = "waiting"
    why: str = ""
    reason: str | None = None
    failures: int = 0
    parent_id: str | None = None
    job_id: str | None = None
    dag_run_id: str | None = None
    image_id: str | None = None


class PausedImage(BaseModel):
    """A customized image that failed too many nights in a row. Setting its `nightly` resumes it."""

    image_id: str
    name: str
    failures: int


class PausedRecipe(BaseModel):
    """A recipe that failed too many nights in a row. Nights build it again after its `nightly` is set."""

    recipe_id: str
    name: str
    failures: int


class NightSummary(BaseModel):
    """The result of the task `summarize`."""

    recipes: list[NightRecipe]
    paused: list[PausedRecipe]
    images: list[NightImage] = []
    paused_images: list[PausedImage] = []

    @property
    def results(self) -> list[NightRecipe | NightImage]:
        """The results of recipes, then those of customized images."""
        return [*self.recipes, *self.images]

    @property
    def sentence(self) -> str:
        """The result in one line. A night that has nothing to do says why."""
        results, pauses = self.results, len(self.paused) + len(self.paused_images)
        counts = {outcome: sum(result.outcome == outcome for result in results) for outcome in _SHOWN}
        paused = f", {pauses} paused" if pauses else ""
        if not results:
            return f"nothing to do: no recipe is due{paused}"
        if counts["unchanged"] == len(results):
            return f"nothing to do: {len(results)} unchanged{paused}"
        shown = (f"{count} {outcome}" for outcome, count in counts.items() if count or outcome in ENDED)
        return ", ".join(shown) + paused


def summarize(
    chosen: Iterable[Mapping[str, Any]],
    plans: Iterable[Mapping[str, Any]],
    builds: Sequence[Build] | None,
    results: Iterable[BuildResult],
) -> list[NightRecipe]:
    """Returns the results of the chosen recipes, in their order.

    `chosen` and `plans` are as the tasks `choose_recipes` and `plan_images` return them. `builds` is None as long as
    the night has not decided what to build.
    """
    plan_of = {plan["recipe_id"]: plan for plan in plans}
    build_of = {build.recipe_id: build for build in builds or ()}
    result_of = {result.recipe_id: result for result in results}
    recipes = []
    for recipe in chosen:
        identity = recipe["recipe_id"]
        plan, build = plan_of.get(identity, {}), build_of.get(identity)
        if build is not None:
            found = _built(build, result_of.get(identity))
        else:
            found = _not_built(recipe, plan, is_decided=builds is not None)
        found.why = plan.get("reason", "")[:REASON_LENGTH]
        recipes.append(found)
    return recipes


def due_recipes(recipes: Iterable[RecipeState]) -> list[RecipeState]:
    """Returns the recipes that the next night builds, if their images would change; `recipes` come oldest first.

    If the newest recipe of a lineage is paused or not marked, no older one takes its place: its image would become the
    newest.
    """
    return [recipe for recipe in _newest(recipes) if recipe.is_due]


def paused_recipes(recipes: Iterable[RecipeState]) -> list[PausedRecipe]:
    """Returns the paused ones among all recipes, given oldest first. Only the newest one of a lineage counts."""
    return [
        PausedRecipe(recipe_id=recipe.id, name=recipe.name, failures=recipe.nightly_failures)
        for recipe in _newest(recipes)
        if recipe.is_paused
    ]


def _newest(recipes: Iterable[RecipeState]) -> list[RecipeState]:
    """The newest recipe of each lineage. A recipe without a link is not pushed yet."""
    return newest_of_lineages(recipe for recipe in recipes if recipe.link is not None)


def _built(build: Build, result: BuildResult | None) -> NightRecipe:
    if result is None:
        return NightRecipe(**build.model_dump(exclude={"boot_files"}), outcome="waiting")
    failures = build.failures
    if result.outcome == "built":
        failures = 0
    elif result.outcome == "failed" and result.blames_recipe:
        failures += 1
    seconds = None
    if result.started is not None and result.ended is not None:
        seconds = round((result.ended - result.started).total_seconds())
    reason = result.reason and result.reason[:REASON_LENGTH]
    fields = result.model_dump(exclude={"blames_recipe"}) | {"reason": reason, "name": build.name, "failures": failures}
    return NightRecipe(**fields, seconds=seconds)


def _not_built(recipe: Mapping[str, Any], plan: Mapping[str, Any], *, is_decided: bool) -> NightRecipe:
    return NightRecipe(
        recipe_id=recipe["recipe_id"],
        name=recipe["name"],
        outcome="unchanged" if is_decided else "waiting",
        image_id=plan.get("image_id"),
    )
