"""Which customized images a night makes again, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ims.nights import NightImage, RecipeState
from ims.replays.order import MAX_DEPTH, Catalog, ImageState, due_images, obstacle, paused_images, waits_for_parent

X86 = "x86_64"


def image(
    identity: str, parent: str | None = None, *, name: str = "", nightly: bool = True, **fields: Any
) -> ImageState:
    """An image that a script made from `parent`. Its name is the id without the digits."""
    name = name or identity.rstrip("0123456789")
    values: dict[str, Any] = {"nightly_failures": 0, "customization_digest": "0" * 64, "link": {}, **fields}
    return ImageState(id=identity, name=name, arch=X86, nightly=nightly, source_image_id=parent, **values)


def built(identity: str, recipe: str = "r") -> ImageState:
    """An image that was built from a recipe."""
    return image(identity, nightly=False, source_recipe_id=recipe, customization_digest=None)


def catalog(*images: ImageState, deleted: tuple[ImageState, ...] = ()) -> Catalog:
    """A catalog with two recipes, of which `r` was pushed twice."""
    names, state = {"r0": "compute", "r": "compute", "q": "other"}, {"nightly": True, "nightly_failures": 0}
    recipes = [RecipeState(id=key, name=name, arch=X86, link=None, **state) for key, name in names.items()]
    return Catalog(images, deleted, recipes)


CHAIN = (built("root1", "r0"), image("node1", "site1"), image("site1", "base1"), image("base1", "root1"))


def names(found: list[NightImage]) -> list[str]:
    """The ids of the images that were chosen."""
    return [result.source_id for result in found]


def test_parents_come_first() -> None:
    """The order does not follow from the order of creation."""
    assert names(due_images(catalog(*CHAIN))) == ["base1", "site1", "node1"]


def test_only_the_newest_of_a_line_counts() -> None:
    """If it is not marked, or a shell made it, or it is paused, no older one takes its place."""
    older = image("base1", "root1")
    not_uploaded = image("base3", "root1", link=None)
    for newest in (
        image("base2", "root1", nightly=False),
        image("base2", "root1", customization_digest=None),
        image("base2", "root1", nightly_failures=99),
    ):
        assert names(due_images(catalog(*CHAIN[:3], older, newest, not_uploaded))) == ["site1", "node1"]


def test_only_what_follows_some_recipes() -> None:
    """A night of some recipes repeats what was made from them, whichever push of them it was."""
    others = (built("there1", "q"), image("else1", "there1"))
    assert names(due_images(catalog(*CHAIN, *others), ["r"])) == ["base1", "site1", "node1"]
    assert names(due_images(catalog(*CHAIN, *others), ["q"])) == ["else1"]


def test_parent_is_the_newest_of_its_line() -> None:
    """It may be an image of another push of the recipe, or another image of the name. Tombstones show the line."""
    newer = (built("root2", "r"), image("base2", "root1"))
    found = catalog(*CHAIN[1:], *newer, deleted=(CHAIN[0],))
    assert [getattr(found.parent(item), "id", None) for item in CHAIN[1:]] == ["site1", "base2", "root2"]
    assert found.parent(image("x", "unknown")) is None


CIRCLES: dict[str, tuple[ImageState, ...]] = {
    "itself": (built("root1"), image("base1", "root1"), image("base2", "base1")),
    "each other": (image("a1", "b1"), image("b1", "a1")),
}


@pytest.mark.parametrize("name", CIRCLES)
def test_circle_is_skipped(name: str) -> None:
    """An image that would be made from itself would be made every night. What follows it has a parent."""
    follower = image("c1", CIRCLES[name][-1].id)
    results = due_images(catalog(*CIRCLES[name], follower))
    assert {result.outcome for result in results if result.name != "c"} == {"skipped"}
    assert all("made from itself" in str(result.reason) for result in results if result.name != "c")
    assert [result.outcome for result in results if result.name == "c"] == ["waiting"]


def test_long_chain_is_skipped() -> None:
    """The number of customizations that follow each other is limited."""
    letters = [chr(ord("a") + number) for number in range(MAX_DEPTH + 2)]
    images = [image(f"{letter}1", f"{before}1") for before, letter in zip(["root", *letters], letters, strict=False)]
    outcomes = {result.name: result.outcome for result in due_images(catalog(built("root1"), *images))}
    assert list(outcomes.values()).count("skipped") == 2
    assert (outcomes[letters[-1]], outcomes[letters[0]]) == ("skipped", "waiting")


def test_obstacles() -> None:
    """An image stays as it is if its parent is gone, or failed in this night; the reason names the parent."""
    found = catalog(*CHAIN)
    node, site, base = CHAIN[1:]
    failed = NightImage(source_id="base1", name="base", outcome="failed")
    assert obstacle(base, found, [], {}) is None
    assert (
        obstacle(base, found, [], {("compute", X86): "compute"})
        == "its parent was not built: the recipe compute failed"
    )
    assert obstacle(site, found, [failed], {}) == "its parent was not built: base failed"
    assert obstacle(node, found, [failed], {}) is None
    assert obstacle(base, catalog(base, deleted=(CHAIN[0],)), [], {}) == "its parent was deleted"
    assert obstacle(base, catalog(base), [], {}) == "its parent was deleted"


def test_children_wait() -> None:
    """The night decides about a parent first."""
    found, waiting = catalog(*CHAIN), NightImage(source_id="base1", name="base")
    assert waits_for_parent(CHAIN[2], found, [waiting])
    assert not waits_for_parent(CHAIN[1], found, [waiting])
    assert not waits_for_parent(CHAIN[2], found, [waiting.model_copy(update={"outcome": "unchanged"})])


def test_paused(configure: Callable[..., None]) -> None:
    """Only the newest image of a line counts."""
    configure(nightly_pause_after=2)
    images = [image("a1", nightly_failures=2), image("a2"), image("b1", nightly_failures=3)]
    assert [(item.image_id, item.failures) for item in paused_images(images)] == [("b1", 3)]
