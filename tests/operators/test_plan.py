"""The task that chooses the recipes of a plan or a night."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from ims.errors import InputError, UnavailableError
from ims.operators import plan
from ims.operators.plan import WORKSPACE_GIB, ChooseRecipesOperator
from ims.params import boot_files
from ims.settings import settings
from tests.operators.fakes import RUN_ID, FakeApi, FakeRuntime, make_context


def recipe(identity: str, **fields: Any) -> dict[str, Any]:
    """The record of a recipe that is due."""
    return {
        "id": identity,
        "name": identity,
        "arch": "x86_64",
        "link": {"type": "s3", "path": f"s3://recipes/{identity}"},
        "template_dictionary": [{"key": "RELEASE", "value": "15"}],
        "nightly": True,
        "nightly_failures": 0,
        "profiles": [],
        **fields,
    }


def choose(
    monkeypatch: pytest.MonkeyPatch,
    *records: dict[str, Any],
    ids: list[str] | None = None,
    image: Any = None,
    events: Sequence[Any] = (),
    **answers: Any,
) -> Any:
    """Run the task with an API that has these recipes, and an image of the recipe `a`; returns the chosen ones."""
    answers |= {"recipes": list(records), **{f"recipes/{record['id']}": record for record in records}}
    if image is not None:
        answers["recipes/a/image"] = image
    runtime = FakeRuntime()
    monkeypatch.setattr(plan, "api_client", lambda: FakeApi(**answers))
    monkeypatch.setattr(plan, "runtime", lambda: runtime)
    context: Any = make_context("nightly_images")
    context["triggering_asset_events"] = {"repositories": [SimpleNamespace(extra=extra) for extra in events]}
    result = ChooseRecipesOperator(task_id="choose_recipes", recipes=ids).execute(context)
    assert runtime.calls == [("open_workspace", f"{RUN_ID}-nightly-images", WORKSPACE_GIB)]
    assert result["workspace"] == f"/workspaces/{RUN_ID}-nightly-images"
    return result["recipes"]


def names(recipes: list[dict[str, Any]]) -> list[str]:
    """The ids of the chosen recipes."""
    return [item["recipe_id"] for item in recipes]


def test_recipes_that_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes that are not marked, and paused ones, are left out."""
    paused = settings().nightly_pause_after
    chosen = choose(
        monkeypatch,
        recipe("due"),
        recipe("failed-once", nightly_failures=paused - 1),
        recipe("paused", nightly_failures=paused),
        recipe("unmarked", nightly=False),
    )
    assert names(chosen) == ["due", "failed-once"]


def test_newest_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pushing a folder again creates a new record; another architecture is another recipe."""
    chosen = choose(
        monkeypatch,
        recipe("old", name="site"),
        recipe("arm", name="site", arch="aarch64"),
        recipe("new", name="site"),
    )
    assert sorted(names(chosen)) == ["arm", "new"]


def test_recipes_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """They need be neither marked nor the newest of their name."""
    records = [recipe("old", name="site", nightly=False), recipe("new", name="site"), recipe("other")]
    assert names(choose(monkeypatch, *records, ids=["old", "other"])) == ["old", "other"]


def test_recipe_without_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to build."""
    assert names(choose(monkeypatch, recipe("a", link=None), recipe("b"))) == ["b"]


def test_nothing_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan of no recipes is empty."""
    assert choose(monkeypatch) == []


def test_one_of_several_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are planned."""
    assert names(choose(monkeypatch, recipe("a"), recipe("b"), ids=["a", "gone", "b"])) == ["a", "b"]


def test_newest_image_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe is planned as one without an image, so it is built."""
    broken = InputError("the record is invalid")
    (chosen, other) = choose(monkeypatch, recipe("a"), recipe("b"), image=broken)
    assert (chosen["image_id"], other["image_id"]) == (None, None)


def test_service_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task is tried again: this is no fault of one recipe."""
    with pytest.raises(AirflowException, match="the service does not answer"):
        choose(monkeypatch, recipe("a"), image=UnavailableError("the service does not answer"))


def test_paused_recipe_has_no_substitute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The older recipe of the lineage is not built in its place."""
    paused = recipe("new", name="site", nightly_failures=settings().nightly_pause_after)
    assert names(choose(monkeypatch, recipe("old", name="site"), paused, recipe("other"))) == ["other"]


def test_too_many_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can stop the nights by pushing more recipes than Airflow can start."""
    monkeypatch.setattr(plan, "MAX_RECIPES", 2)
    assert names(choose(monkeypatch, *(recipe(str(number)) for number in range(4)))) == ["0", "1"]


def test_missing_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another try cannot help."""
    with pytest.raises(AirflowFailException, match="recipes/gone"):
        choose(monkeypatch, ids=["gone"])


IMAGES = {
    "no image": (None, (None, None)),
    "an image": (
        {"id": "i1", "link": {"path": "s3://boot-images/i1/manifest.yaml"}},
        ("i1", "s3://boot-images/i1/manifest.yaml"),
    ),
    "an image without objects": ({"id": "i1", "link": None}, ("i1", None)),
}


@pytest.mark.parametrize(("image", "expected"), IMAGES.values(), ids=IMAGES)
def test_newest_image(
    monkeypatch: pytest.MonkeyPatch, image: dict[str, Any] | None, expected: tuple[str | None, str | None]
) -> None:
    """The plan compares the recipe with the newest image that was built from it."""
    (chosen,) = choose(monkeypatch, recipe("a"), image=image)
    assert (chosen["image_id"], chosen["manifest"]) == expected
    assert chosen["path"] == "s3://recipes/a"
    assert "15" not in json.dumps(chosen)  # viewers read results of tasks


PUBLISHED = {"payload": {"repositories": ["http://nexus/b"]}}
EVENTS = {
    "the schedule": ([], ["used", "other", "unknown", "no-image"]),
    "a publication": ([PUBLISHED], ["used", "unknown", "no-image"]),
    "two publications": (
        [PUBLISHED, {"payload": {"repositories": ["http://nexus/c"]}}],
        ["used", "other", "unknown", "no-image"],
    ),
    "a publication in a repository of no recipe": (
        [{"payload": {"repositories": ["http://nexus/x"]}}],
        ["unknown", "no-image"],
    ),
    "an event that a user made": ([{}, {"payload": "x"}, {"payload": {"repositories": 1}}], ["unknown", "no-image"]),
}


@pytest.mark.parametrize(("events", "expected"), EVENTS.values(), ids=EVENTS)
def test_publications(monkeypatch: pytest.MonkeyPatch, events: list[Any], expected: list[str]) -> None:
    """They choose the due recipes that use the repositories, that have unknown ones, and those without an image."""
    repositories = [
        {"index_url": "http://nexus/b", "recipes": ["used", "not-due"]},
        {"index_url": "http://nexus/c", "recipes": ["other"]},
        {"index_url": None, "recipes": ["unknown"]},
    ]
    image = {"id": "i1", "link": None}
    records = [*map(recipe, ("used", "other", "unknown", "no-image")), recipe("not-due", nightly=False)]
    images = {f"recipes/{name}/image": image for name in ("used", "other", "unknown")}
    answers: dict[str, Any] = {"nights/repositories": repositories, **images}
    assert names(choose(monkeypatch, *records, events=events, **answers)) == expected


def test_boot_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan looks up the names of the recipe's record, as its builds do."""
    other, default = choose(monkeypatch, recipe("a", initrd_file_name="initramfs.img"), recipe("b"))
    assert default["boot_files"] == boot_files.DEFAULTS
    assert other["boot_files"] == {**boot_files.DEFAULTS, "initrd_file_name": "initramfs.img"}
