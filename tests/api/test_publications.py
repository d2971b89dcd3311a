"""Which repositories of nightly recipes are watched. tests/flows/test_nightly.py tests what a publication starts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import pytest

from ims.api.runs import publications
from ims.api.runs.publications import ObservedRepository, list_repositories
from ims.errors import MissingError, UnavailableError
from ims.records.models import Image, Recipe
from ims.records.store import Records

APT, RPM = "http://nexus/dists/bookworm/InRelease", "http://nexus/os/repodata/repomd.xml"
MIRRORS = "http://nexus/mirrorlist?repo=os"


class FakeRecords:
    """Nightly recipes, and their newest images. The manifest of an image has the id of the recipe as its address."""

    def __init__(self, *recipes: str) -> None:
        self.images = {recipe: Image(name=recipe, source_recipe_id=recipe, link_path=recipe) for recipe in recipes}

    def list(self, _kind: Any, _selection: Any) -> list[Recipe]:
        """The recipes, and one without an image."""
        fields: dict[str, Any] = {"arch": "x86_64", "nightly": True, "nightly_failures": 0, "link": {}}
        return [Recipe(id=recipe, name=recipe, **fields) for recipe in (*self.images, "no-image")]

    def newest_images(self, _recipes: Any) -> dict[str, Image]:
        """The images."""
        return self.images


def listed(records: FakeRecords) -> list[ObservedRepository]:
    """The answer of the API."""
    return list_repositories(cast("Records", records), cast("Any", None))


def unknown(*recipes: str) -> ObservedRepository:
    """The item that names recipes whose repositories are not all listed."""
    return ObservedRepository(index_url=None, digests=[], recipes=list(recipes))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[str]]]:
    """Sets the build inputs by the addresses of manifests, or errors; returns the list of those that are read."""
    reads: list[str] = []

    def use(**inputs: Mapping[str, str] | Exception) -> list[str]:
        def one(_store: Any, manifest: str) -> Mapping[str, str]:
            reads.append(manifest)
            found = inputs[manifest]
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(publications, "_repositories", one)
        return reads

    yield use
    publications._next_reads.clear()


def test_recipes_of_each_repository(read: Callable[..., list[str]]) -> None:
    """Each digest is listed once. Lists of mirrors are left out, because they may differ at each request."""
    read(one={APT: "1", RPM: "2", MIRRORS: "3"}, two={RPM: "2"}, three={RPM: "4"})
    assert listed(FakeRecords("one", "two", "three")) == [
        ObservedRepository(index_url=APT, digests=["1"], recipes=["one"]),
        ObservedRepository(index_url=RPM, digests=["2", "4"], recipes=["one", "two", "three"]),
        unknown("one"),
    ]


@pytest.mark.parametrize("error", [UnavailableError("S3 does not answer"), MissingError("there is no manifest")])
def test_unknown_repositories(read: Callable[..., list[str]], error: Exception) -> None:
    """The answer names the recipes, so that nights do not take them for unchanged. They hide no other recipe."""
    read(good={RPM: "1"}, damaged=error)
    records = FakeRecords("no-link", "damaged", "good")
    records.images["no-link"].link_path = None
    good = ObservedRepository(index_url=RPM, digests=["1"], recipes=["good"])
    assert listed(records) == [good, unknown("no-link", "damaged")]


def test_recipe_was_pushed_since(read: Callable[..., list[str]]) -> None:
    """It may have other repositories than its newest image."""
    read(pushed={RPM: "1"})
    records = FakeRecords("pushed")
    records.images["pushed"].source_recipe_id = "older"
    assert listed(records) == [ObservedRepository(index_url=RPM, digests=["1"], recipes=["pushed"]), unknown("pushed")]


def test_too_many_repositories(read: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes of those that are not listed are named."""
    monkeypatch.setattr(publications, "MAX_REPOSITORIES", 1)
    read(one={APT: "1", RPM: "2"}, two={APT: "1"})
    assert listed(FakeRecords("one", "two")) == [
        ObservedRepository(index_url=APT, digests=["1"], recipes=["one", "two"]),
        unknown("one"),
    ]


def test_failures_are_kept_for_a_while(
    read: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The watch asks every 10 seconds. S3 is asked again after minutes, and the log has what changed."""
    now = 1000.0
    monkeypatch.setattr("ims.api.runs.publications.time.monotonic", lambda: now)
    caplog.set_level(logging.INFO, publications.__name__)
    records, reads = FakeRecords("one"), read(one=UnavailableError("S3 does not answer"))
    for _ in range(3):
        assert listed(records) == [unknown("one")]
    assert reads == ["one"]
    now += publications.FAILURE_SECONDS
    assert listed(records) == [unknown("one")]
    assert (len(reads), len(caplog.records)) == (2, 1)
    now += publications.FAILURE_SECONDS
    read(one={RPM: "1"})
    assert [item.index_url for item in listed(records)] == [RPM]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    read(one=UnavailableError("S3 does not answer"))
    listed(records)
    listed(FakeRecords())
    assert publications._next_reads == {}
