"""What retention lets go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ims.records.models import Image, Recipe
from ims.records.retention import Rules, expired, retired

NOW = datetime(2026, 6, 1, tzinfo=UTC)
RULES = Rules(keep_last=2, keep_days=10, tombstone_days=3)


def days(number: float) -> datetime:
    """So many days before now."""
    return NOW - timedelta(days=number)


def built(identity: str, age: float, recipe: str | None = "r", **fields: Any) -> Image:
    """An image that was built from a recipe some days ago; it is not kept anywhere."""
    return Image(
        **{
            "id": identity,
            "name": identity,
            "arch": "x86_64",
            "created": days(age),
            "source_recipe_id": recipe,
            **fields,
        }
    )


def recipe(identity: str, name: str, arch: str = "x86_64", **fields: Any) -> Recipe:
    """A recipe that is not kept anywhere."""
    return Recipe(id=identity, name=name, arch=arch, created=days(99), **fields)


def gone(images: list[Image], recipes: list[Recipe] | None = None, rules: Rules = RULES, **used: str) -> set[str]:
    """Names of the images that are to be tombstones."""
    return {image.id for image in retired(images, recipes or [recipe("r", "r")], used, NOW, rules)}


AGES = {"a": 50.0, "b": 40.0, "c": 30.0, "d": 20.0, "e": 1.0}


def versions(**changes: dict[str, Any]) -> list[Image]:
    """Five images of one recipe, of which `e` is young."""
    return [built(name, age, **changes.get(name, {})) for name, age in AGES.items()]


def test_last_of_a_recipe() -> None:
    """The last two stay however old, the rest goes."""
    assert gone(versions()) == {"a", "b", "c"}
    assert gone([image for image in versions() if image.id in "ab"]) == set()


def test_young() -> None:
    """All that are young stay, however many."""
    assert gone([built(str(number), number) for number in range(14)]) == {"11", "12", "13"}


def test_checked_is_young() -> None:
    """What was last seen to be current counts from then on: nights that build nothing keep it."""
    assert gone(versions(a={"checked": days(2)})) == {"b", "c", "d"}


@pytest.mark.parametrize("change", [{"pinned": True}, {"source_recipe_id": None}, {"deleted": days(1)}])
def test_stays(change: dict[str, Any]) -> None:
    """Pinned; not built from a recipe; deleted already, which then is none of the last either."""
    assert gone(versions(a=change)) == {"b", "c"}
    assert gone(versions(d={"deleted": days(1)})) == {"a", "b"}


def test_used() -> None:
    """What a running job works with stays."""
    assert gone(versions(), b="job") == {"a", "c"}


def test_pushed_again() -> None:
    """Recipes of one name are one, deleted ones too; of other processors they are others."""
    pushed = [recipe("1", "x", deleted=days(1)), recipe("2", "x"), recipe("3", "x", "aarch64")]
    images = [built("a", 40, "1"), built("b", 30, "2"), built("c", 20, "2"), built("d", 50, "3")]
    assert gone(images, pushed) == {"a"}


@pytest.mark.parametrize("rules", [Rules(0, 10, 3), Rules(2, 0, 3), Rules(0, 0, 0)])
def test_keep_all(rules: Rules) -> None:
    """Nothing goes where nothing is set."""
    assert gone(versions(), rules=rules) == set()


def test_all_images() -> None:
    """If it is wanted, images without a recipe are versions of their name."""
    by_hand = [built(name, age, None) for name, age in AGES.items()]
    assert gone(by_hand, rules=Rules(2, 10, 3, all_images=True)) == set()
    for image in by_hand:
        image.name = "x"
    assert gone(by_hand, rules=Rules(2, 10, 3, all_images=True)) == {"a", "b", "c"}
    assert gone(by_hand) == set()


def test_tombstones() -> None:
    """They go after their time, unless used, pinned, or the recipe of an image that is there."""
    images = [built("a", 9, deleted=days(4)), built("b", 9, deleted=days(2)), built("c", 9)]
    images += [built("d", 9, deleted=days(4), pinned=True), built("e", 9, deleted=days(4)), built("f", 9, "s")]
    recipes = [recipe("r", "r", deleted=days(4)), recipe("s", "s", deleted=days(4)), recipe("t", "t", deleted=days(4))]

    def goes(rules: Rules) -> set[str]:
        return {record.id for record in expired([*images, *recipes], images, {"e"}, NOW, rules)}

    assert goes(RULES) == {"a", "t"}
    assert goes(Rules(0, 0, 3)) == {"a", "t"}
    assert goes(Rules(2, 10, 0)) == set()
