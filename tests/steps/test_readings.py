"""What the sandbox read in a recipe is kept for plans."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ims.builder import programs
from ims.recipes import expansion
from ims.recipes.description import Description
from ims.recipes.expansion import Expansion
from ims.recipes.network import RecipeNetwork
from ims.recipes.reading import ReadArchive, RecipeArchive, RecipeDigests, RenderedRecipe
from ims.settings import settings
from ims.steps import readings

SHA256 = "a" * 64


def reading(name: str, logins: tuple[str, ...]) -> ReadArchive:
    """What is read in a recipe."""
    description = Description(
        name=name, version="1", package_manager="zypper", repositories=(), packages=("bash",), logins=logins
    )
    recipe = RenderedRecipe(
        expansion=Expansion(file="config.xml", text="<image/>"),
        description=description,
        digests=RecipeDigests(description=SHA256, bootstrap_script="", files=SHA256),
        network=RecipeNetwork(access="repositories", urls=[], hosts=[]),
    )
    return ReadArchive(digest=SHA256, templates=[], recipe=recipe)


class Reader:
    """Reads a recipe whenever nothing was kept, and counts."""

    def __init__(self, *logins: str) -> None:
        self.logins = logins
        self.count = 0

    def __call__(self) -> ReadArchive:
        """Every reading has another name."""
        self.count += 1
        return reading(f"reading-{self.count}", self.logins)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home without caches."""
    monkeypatch.setattr("ims.cache.settings", lambda: settings().model_copy(update={"home": tmp_path}))
    monkeypatch.setattr(programs, "versions", lambda manager: {"kiwi": "10", "manager": manager})
    return tmp_path


def packed(**changes: Any) -> RecipeArchive:
    """An archive of a recipe."""
    fields: dict[str, Any] = {
        **{"archive": Path("/a"), "folder": Path("/b"), "max_bytes": 1, "max_files": 1},
        **{"variables": {"A": "1"}, "arch": "x86_64", "profiles": ["site"]},
    }
    return RecipeArchive(**{**fields, **changes})


def test_same_recipe_is_read_once() -> None:
    """Where it was downloaded and unpacked does not matter."""
    read = Reader()
    first = readings.keep(SHA256, packed(), read)
    assert readings.keep(SHA256, packed(archive=Path("/c"), folder=Path("/d")), read) == first
    assert read.count == 1


CHANGES: dict[str, Callable[[pytest.MonkeyPatch], tuple[str, RecipeArchive]]] = {
    "archive": lambda _: ("b" * 64, packed()),
    "variable": lambda _: (SHA256, packed(variables={"A": "2"})),
    "architecture": lambda _: (SHA256, packed(arch="aarch64")),
    "profiles": lambda _: (SHA256, packed(profiles=[])),
    "limit": lambda _: (SHA256, packed(max_files=2)),
    "program": lambda patch: (patch.setattr(programs, "versions", lambda _: {"kiwi": "99"}), (SHA256, packed()))[1],
    "kiwi 9": lambda patch: (patch.setattr(readings, "kiwi_9_version", lambda: "9.99"), (SHA256, packed()))[1],
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_is_read(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Everything that decides what is read is part of the key."""
    read = Reader()
    readings.keep(SHA256, packed(), read)
    readings.keep(*CHANGES[change](monkeypatch), read)
    assert read.count == 2


def test_logins_are_not_kept(home: Path) -> None:
    """They would stay on the disk after the plan."""
    read = Reader("secret-login")
    for _ in range(2):
        readings.keep(SHA256, packed(), read)
    assert read.count == 2
    assert [path for path in home.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("text", ["", "{}", '{"digest": "x"}'])
def test_damaged_entry(home: Path, text: str) -> None:
    """The recipe is read again, and the entry replaced."""
    read = Reader()
    readings.keep(SHA256, packed(), read)
    (entry,) = (path for path in home.rglob("*") if path.is_file())
    entry.write_text(text)
    assert readings.keep(SHA256, packed(), read).recipe.description.name == "reading-2"
    assert readings.keep(SHA256, packed(), read).recipe.description.name == "reading-2"
    assert entry.stat().st_mode & 0o777 == 0o600


def test_without_a_cache(home: Path) -> None:
    """Pods cannot write to the caches."""
    (home / "cache").write_text("no folder")
    assert readings.keep(SHA256, packed(), Reader()).digest == SHA256


def test_kiwi_9_is_found() -> None:
    """It has a version where it is installed."""
    assert bool(expansion.kiwi_9_version()) is expansion.KIWI_9.exists()
