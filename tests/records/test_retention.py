"""Which images expire, and which tombstones retention purges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ims.records.holds import UNUSED, Holds
from ims.records.lineage import replay_sources
from ims.records.models import AnyRecord, Image, Recipe
from ims.records.retention import Rules, expired_images, expired_tombstones

NOW = datetime(2026, 6, 1, tzinfo=UTC)
RULES = Rules(keep_last=2, keep_days=10, tombstone_days=3)


def days(number: float) -> datetime:
    """The time this many days ago."""
    return NOW - timedelta(days=number)


def built(identity: str, age: float, recipe: str | None = "r", **fields: Any) -> Image:
    """An image that was built from a recipe `age` days ago; it is not in a database."""
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
    """A recipe that is not in a database."""
    return Recipe(id=identity, name=name, arch=arch, created=days(99), **fields)


def expired(
    images: list[Image], recipes: list[Recipe] | None = None, rules: Rules = RULES, holds: Holds = UNUSED
) -> set[str]:
    """The ids of the images that expire."""
    return {image.id for image in expired_images(images, recipes or [recipe("r", "r")], holds, NOW, rules)}


AGES = {"a": 50.0, "b": 40.0, "c": 30.0, "d": 20.0, "e": 1.0}


def versions(**changes: dict[str, Any]) -> list[Image]:
    """Five images of one recipe; only `e` is young."""
    return [built(name, age, **changes.get(name, {})) for name, age in AGES.items()]


def test_last_images_of_a_recipe_stay() -> None:
    """The last two stay at any age; the others expire."""
    assert expired(versions()) == {"a", "b", "c"}
    assert expired([image for image in versions() if image.id in "ab"]) == set()


def test_young_images_stay() -> None:
    """Any number of young images stays."""
    assert expired([built(str(number), number) for number in range(14)]) == {"11", "12", "13"}


def test_age_counts_from_the_last_check() -> None:
    """An image that a plan found to be current stays, although no night built it again."""
    assert expired(versions(a={"checked": days(2)})) == {"b", "c", "d"}


@pytest.mark.parametrize("change", [{"pinned": True}, {"source_recipe_id": None}, {"deleted": days(1)}])
def test_image_that_does_not_expire(change: dict[str, Any]) -> None:
    """Pinned, not built from a recipe, or deleted: a deleted image is not one of the last two either."""
    assert expired(versions(a=change)) == {"b", "c"}
    assert expired(versions(d={"deleted": days(1)})) == {"a", "b"}


def test_image_in_use_stays() -> None:
    """A running job holds its image."""
    assert expired(versions(), holds=Holds({"b": "job"})) == {"a", "c"}


def test_recipes_of_one_name_share_a_lineage() -> None:
    """Deleted recipes belong to it, recipes for another architecture do not."""
    pushed = [recipe("1", "x", deleted=days(1)), recipe("2", "x"), recipe("3", "x", "aarch64")]
    images = [built("a", 40, "1"), built("b", 30, "2"), built("c", 20, "2"), built("d", 50, "3")]
    assert expired(images, pushed) == {"a"}


@pytest.mark.parametrize("rules", [Rules(0, 10, 3), Rules(2, 0, 3), Rules(0, 0, 0)])
def test_retention_is_off_without_rules(rules: Rules) -> None:
    """No image expires unless both limits are set."""
    assert expired(versions(), rules=rules) == set()


def test_retention_of_all_images() -> None:
    """With `all_images`, images of one name form a lineage even without a recipe."""
    registered = [built(name, age, None) for name, age in AGES.items()]
    assert expired(registered, rules=Rules(2, 10, 3, all_images=True)) == set()
    for image in registered:
        image.name = "x"
    assert expired(registered, rules=Rules(2, 10, 3, all_images=True)) == {"a", "b", "c"}
    assert expired(registered) == set()


def test_retention_of_nightly_images() -> None:
    """Customized images that nights make again form a lineage, or a night would fill S3. Those by hand stay."""
    customized = [built(name, age, None, nightly=name != "a") for name, age in AGES.items()]
    for image in customized:
        image.name = "x"
    assert expired(customized) == {"b", "c"}


def customized(identity: str, age: float, source: str, **fields: Any) -> Image:
    """A nightly image with the name of its id without the number."""
    fields = {"nightly": True, "link_path": f"s3://boot-images/{identity}/manifest.yaml", **fields}
    return built(identity, age, None, **{"source_image_id": source, "name": identity[:-1], **fields})


@pytest.mark.parametrize(
    ("newer", "purged"),
    [
        (None, set()),
        (customized("base2", 1, "root2"), {"root1"}),
        (customized("base2", 1, "root2", link_path=None), set()),
        (customized("base2", 1, "root2", deleted=days(1)), set()),
        (customized("base2", 1, "root2", nightly=False), {"root1"}),
        (customized("other2", 1, "root2"), set()),
    ],
    ids=["unchanged", "made again", "not uploaded", "deleted again", "by a shell", "another name"],
)
def test_source_of_a_nightly_image(newer: Image | None, purged: set[str]) -> None:
    """It is kept until the image was made again from a newer one: nights find the parent by it."""
    images = [built("root1", 50, deleted=days(4)), customized("base1", 9, "root1"), customized("site1", 9, "base1")]
    images += [built(f"root{number}", 20) for number in (2, 3)] + ([newer] if newer is not None else [])
    holds = Holds({}, (), replay_sources(images))
    assert {record.id for record in expired_tombstones(images, holds, NOW, RULES)} == purged
    images[0].deleted = None
    assert expired(images, holds=holds) == purged


def test_chain_of_nightly_images() -> None:
    """Each image of a chain holds its own source, and no older one."""
    images = [customized(f"base{number}", 50 - number, f"root{number}") for number in (1, 2)]
    images += [customized(f"site{number}", 40 - number, f"base{number}") for number in (1, 2)]
    assert replay_sources(images) == {"root2", "base2"}
    assert replay_sources(reversed(images)) == {"root2", "base2"}


def test_tombstones_to_purge() -> None:
    """Old tombstones are purged, unless they are in use, pinned, or the recipe of an image."""
    images = [built("a", 9, deleted=days(4)), built("b", 9, deleted=days(2)), built("c", 9)]
    images += [built("d", 9, deleted=days(4), pinned=True), built("e", 9, deleted=days(4)), built("f", 9, "s")]
    recipes = [recipe("r", "r", deleted=days(4)), recipe("s", "s", deleted=days(4)), recipe("t", "t", deleted=days(4))]

    holds = Holds({"e": "job"}, {image.source_recipe_id for image in images})
    records: list[AnyRecord] = [*images, *recipes]

    def purged(rules: Rules) -> set[str]:
        return {record.id for record in expired_tombstones(records, holds, NOW, rules)}

    assert purged(RULES) == {"a", "t"}
    assert purged(Rules(0, 0, 3)) == {"a", "t"}
    assert purged(Rules(2, 10, 0)) == set()
