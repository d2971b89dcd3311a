"""The summary of a night, and which recipes are due or paused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from ims.nights import (
    REASON_LENGTH,
    Build,
    BuildResult,
    NightRecipe,
    NightSummary,
    Outcome,
    PausedRecipe,
    RecipeState,
    due_recipes,
    paused_recipes,
    summarize,
)

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def chosen(*names: str) -> list[dict[str, Any]]:
    """The result of `choose_recipes`."""
    return [{"recipe_id": f"id-{name}", "name": name} for name in names]


def plan(name: str, image_id: str | None = None) -> dict[str, Any]:
    """A plan of `plan_images`."""
    return {"recipe_id": f"id-{name}", "reason": f"why {name}", "image_id": image_id}


def build(name: str, failures: int = 0) -> Build:
    """A build of `choose_builds`."""
    return Build(recipe_id=f"id-{name}", name=name, failures=failures)


def result(name: str, outcome: Literal["building", "built", "failed"], **fields: Any) -> BuildResult:
    """The result of a build."""
    return BuildResult(recipe_id=f"id-{name}", outcome=outcome, **fields)


def test_nothing_is_decided_yet() -> None:
    """All recipes wait until the night has decided what to build."""
    recipes = summarize(chosen("a", "b"), [], None, [])
    assert [(recipe.name, recipe.outcome, recipe.why) for recipe in recipes] == [
        ("a", "waiting", ""),
        ("b", "waiting", ""),
    ]


def test_outcomes() -> None:
    """Recipes come in the order in which they were chosen, each with the reason of its plan."""
    builds = [build("a"), build("b"), build("d")]
    results = [result("b", "building", job_id="job-b"), result("a", "built", job_id="job-a", image_id="new")]
    recipes = summarize(chosen("a", "b", "c", "d"), [plan("a"), plan("c", "current")], builds, results)
    assert [(recipe.name, recipe.outcome) for recipe in recipes] == [
        ("a", "built"),
        ("b", "building"),
        ("c", "unchanged"),
        ("d", "waiting"),
    ]
    assert [recipe.why for recipe in recipes] == ["why a", "", "why c", ""]
    assert [recipe.image_id for recipe in recipes] == ["new", None, "current", None]
    assert [recipe.job_id for recipe in recipes] == ["job-a", "job-b", None, None]


@pytest.mark.parametrize(("outcome", "failures"), [("failed", 3), ("built", 0), ("building", 2)])
def test_failures(outcome: Literal["building", "built", "failed"], failures: int) -> None:
    """A failure adds to the nights that failed before, and a success resets the count."""
    (recipe,) = summarize(chosen("a"), [], [build("a", failures=2)], [result("a", outcome)])
    assert recipe.failures == failures


def test_failure_of_the_environment_does_not_count() -> None:
    """An outage pauses no recipe, and does not reset the count of one that fails by itself."""
    (recipe,) = summarize(chosen("a"), [], [build("a", failures=2)], [result("a", "failed", blames_recipe=False)])
    assert (recipe.outcome, recipe.failures) == ("failed", 2)


def test_unchanged_recipe_has_no_failures() -> None:
    """An image that is current resets the count, too."""
    (recipe,) = summarize(chosen("a"), [plan("a", "current")], [], [])
    assert (recipe.outcome, recipe.failures) == ("unchanged", 0)


def test_duration_and_reason() -> None:
    """The duration is in seconds, and a long reason is cut."""
    times = {"started": BEGIN, "ended": BEGIN + timedelta(seconds=90.4)}
    (recipe,) = summarize(chosen("a"), [], [build("a")], [result("a", "failed", reason="x" * 1000, **times)])
    assert recipe.seconds == 90
    assert recipe.reason == "x" * REASON_LENGTH


def state(name: str, failures: int = 0, *, nightly: bool = True, pushed: bool = True) -> RecipeState:
    """A recipe, whose id has the count of its failures."""
    link = {"path": "s3://ims/recipe"} if pushed else None
    fields: dict[str, Any] = {"nightly": nightly, "nightly_failures": failures, "link": link}
    return RecipeState(id=f"{name}-{failures}", name=name, arch="x86_64", **fields)


def test_due_and_paused(configure: Callable[..., None]) -> None:
    """A nightly recipe is due until it has failed too often; then it is paused."""
    configure(nightly_pause_after=2)
    cases = [state("a"), state("a", 1), state("a", 2), state("a", 2, nightly=False), state("a", nightly=False)]
    assert [recipe.is_due for recipe in cases] == [True, True, False, False, False]
    assert [recipe.is_paused for recipe in cases] == [False, False, True, False, False]


def test_newest_push_wins(configure: Callable[..., None]) -> None:
    """If it is paused or not marked, no older one is built: its image would become the newest."""
    configure(nightly_pause_after=2)
    old, paused, unmarked = state("a"), state("a", 2), state("a", 1, nightly=False)
    assert due_recipes([old]) == due_recipes([paused, old]) == [old]
    assert due_recipes([old, paused]) == due_recipes([old, unmarked]) == []
    assert [recipe.recipe_id for recipe in paused_recipes([old, paused])] == ["a-2"]
    assert paused_recipes([paused, old]) == paused_recipes([paused, unmarked]) == []


def test_recipe_without_an_archive_is_not_pushed_yet() -> None:
    """Its record hides no other."""
    old = state("a")
    assert due_recipes([old, state("a", 1, pushed=False)]) == [old]


SENTENCES = {
    "nothing marked": ([], 0, "nothing to do: no recipe is due"),
    "all paused": ([], 2, "nothing to do: no recipe is due, 2 paused"),
    "nothing changed": (["unchanged", "unchanged"], 1, "nothing to do: 2 unchanged, 1 paused"),
    "some changed": (["built", "unchanged"], 0, "0 failed, 1 built, 1 unchanged"),
    "still running": (["failed", "building", "waiting"], 0, "1 failed, 0 built, 0 unchanged, 1 building, 1 waiting"),
}


@pytest.mark.parametrize(("outcomes", "paused", "sentence"), SENTENCES.values(), ids=SENTENCES)
def test_sentence(outcomes: list[Outcome], paused: int, sentence: str) -> None:
    """A night that has nothing to do says why."""
    recipes = [NightRecipe(recipe_id="id", name="a", outcome=outcome) for outcome in outcomes]
    summary = NightSummary(recipes=recipes, paused=[PausedRecipe(recipe_id="id", name="b", failures=3)] * paused)
    assert summary.sentence == sentence


def test_paused_recipes(configure: Callable[..., None]) -> None:
    """Only the newest recipe of a lineage counts."""
    configure(nightly_pause_after=2)
    recipes = [state("a", 2), state("b", 2), state("a"), state("c", 3)]
    assert [(recipe.recipe_id, recipe.failures) for recipe in paused_recipes(recipes)] == [("b-2", 2), ("c-3", 3)]
