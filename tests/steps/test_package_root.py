"""Roots that are kept from one build to the next."""

from __future__ import annotations

import logging
from pathlib import Path
from uuid import uuid4

import pytest

from ims.settings import settings
from ims.steps import package_root
from tests.images.trees import snapshot
from tests.steps.test_package_artifacts import write_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one of everything."""
    return write_root(tmp_path / "root")


@pytest.fixture
def recipe_id() -> str:
    """A recipe without any root."""
    return str(uuid4())


def kept(recipe_id: str) -> list[Path]:
    """What there is of a recipe."""
    return list((settings().home / "cache" / "roots" / recipe_id).iterdir())


def test_comes_back_whole(recipe_id: str, root: Path, tmp_path: Path) -> None:
    """With owners, times, links, attributes, devices."""
    package_root.keep(recipe_id, recipe_id, root)
    assert package_root.restore(recipe_id, tmp_path / "again")
    assert snapshot(tmp_path / "again") == snapshot(root)


def test_another_key_finds_nothing(recipe_id: str, root: Path, tmp_path: Path) -> None:
    """And a root of another key takes the place of the last."""
    one, two = f"{recipe_id}-1", f"{recipe_id}-2"
    assert not package_root.restore(one, tmp_path / "again")
    package_root.keep(recipe_id, one, root)
    assert not package_root.restore(one[:-1], tmp_path / "again")
    package_root.keep(recipe_id, two, root)
    assert not package_root.restore(one, tmp_path / "again")
    assert len(kept(recipe_id)) == 1
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: bytes(len(data))])
def test_damaged_root_is_not_used(
    recipe_id: str, root: Path, tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes, and the log says so."""
    package_root.keep(recipe_id, recipe_id, root)
    (path,) = kept(recipe_id)
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert not package_root.restore(recipe_id, tmp_path / "again")
    assert "cannot be used" in caplog.text
    assert kept(recipe_id) == []
    assert not (tmp_path / "again").exists()


def test_no_place_to_keep_it(recipe_id: str, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A build goes on without."""
    folder = settings().home / "cache" / "roots"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / recipe_id).write_text("in the way")
    with caplog.at_level(logging.WARNING):
        package_root.keep(recipe_id, recipe_id, root)
    assert "is not kept" in caplog.text
    assert not package_root.restore(recipe_id, tmp_path / "again")


def test_key_is_made_of_all_that_counts(tmp_path: Path) -> None:
    """Each part of it changes it."""
    description, package = tmp_path / "description", tmp_path / "ca.deb"
    description.mkdir()
    (description / "config.xml").write_text("<image/>")
    package.write_bytes(b"one")
    keys = [package_root.key(description, "apt", "packages", package)]
    assert package_root.key(description, "apt", "packages", package) == keys[0]
    keys.append(package_root.key(description, "apt", "others", package))
    keys.append(package_root.key(description, "zypper", "packages", package))
    package.write_bytes(b"two")
    keys.append(package_root.key(description, "apt", "packages", package))
    (description / "config.xml").write_text("<image />")
    keys.append(package_root.key(description, "apt", "packages", package))
    assert len(set(keys)) == len(keys)
