"""Which repositories of nightly recipes are watched. tests/flows/test_nightly.py tests what a publication starts."""

from __future__ import annotations

from typing import Any, cast

from ims.api.runs import publications
from ims.api.runs.publications import ObservedRepository
from ims.errors import InputError, MissingError
from ims.records.models import Image, Recipe
from ims.records.store import Records

APT, RPM = "http://nexus/dists/bookworm/InRelease", "http://nexus/os/repodata/repomd.xml"


class FakeRecords:
    """Recipes whose newest images are known by the ids of the recipes."""

    def get(self, _kind: Any, identity: str) -> Recipe:
        """A recipe."""
        return Recipe(id=identity, name=identity, arch="x86_64")

    def newest_image(self, recipe: Recipe) -> Image:
        """Its image."""
        if recipe.id == "no-image":
            raise MissingError("there is no image")
        return Image(id=recipe.id, name=recipe.name, link_path=None if recipe.id == "no-link" else recipe.id)


def observed(monkeypatch: Any, recipe: str) -> Any:
    """The repositories of a recipe. The build inputs of `damaged` cannot be read."""

    def read(_store: Any, manifest: str) -> dict[str, str]:
        if manifest == "damaged":
            raise InputError("the build inputs cannot be read")
        return {RPM: "1"}

    monkeypatch.setattr(publications, "_repositories", read)
    return publications._observed(recipe, cast("Records", FakeRecords()), cast("Any", None))


def test_recipes_of_each_repository() -> None:
    """Each digest is listed once. Lists of mirrors are left out, because they may differ at each request."""
    found = publications._by_address(
        [
            ("one", {APT: "1", RPM: "2", "http://nexus/mirrorlist?repo=os": "3"}),
            ("two", {RPM: "2"}),
            ("three", {RPM: "4"}),
        ]
    )
    assert found == [
        ObservedRepository(index_url=APT, digests=["1"], recipes=["one"]),
        ObservedRepository(index_url=RPM, digests=["2", "4"], recipes=["one", "two", "three"]),
    ]


def test_recipe_without_build_inputs(monkeypatch: Any) -> None:
    """It hides no other recipe."""
    assert observed(monkeypatch, "good") == {RPM: "1"}
    for recipe in ("no-image", "no-link", "damaged"):
        assert observed(monkeypatch, recipe) == {}
