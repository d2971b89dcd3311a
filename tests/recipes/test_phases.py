"""A recipe as two descriptions: kiwi accepts both, and only the first decides the packages."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from ims.recipes import archive, phases
from ims.recipes.expansion import Expansion, expand
from ims.recipes.expansion.xml import read_xml
from tests.recipes.test_description import VARIABLES, rendered

USERS = '<users><user name="admin" password="secret" home="/home/admin"/></users>'
DELETED = '<packages type="delete"><package name="perl"/></packages>'
ARCHIVE = '<packages type="image"><archive name="root.tar.gz"/><file name="motd" target="/etc/motd"/></packages>'


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The shipped Debian recipe."""
    return rendered("debian12", tmp_path / "recipe")


def expansion_of(recipe: Path) -> Expansion:
    """The expansion of a description that is already as kiwi sees it, without the second that kiwi takes."""
    text = etree.tostring(read_xml(recipe), encoding="unicode")
    return Expansion(file="config.xml", text=etree.canonicalize(text, strip_text=True))


def parts(recipe: Path) -> tuple[str, str]:
    """The digests of both descriptions."""
    first, second = recipe.with_name("first"), recipe.with_name("second")
    expansion = expansion_of(recipe)
    phases.write_package_part(recipe, first, expansion)
    phases.write_image_part(recipe, second, expansion)
    return archive.digest(first), archive.digest(second)


def add(recipe: Path, xml: str) -> None:
    """Add elements to a description."""
    config = recipe / "config.xml"
    config.write_text(config.read_text().replace("</image>", f"{xml}</image>"))


def names(config: etree._ElementTree, kind: str = "package") -> list[str | None]:
    """The names of the packages, archives or files in a description."""
    return [element.get("name") for element in config.iterfind(f"packages/{kind}")]


@pytest.mark.parametrize("name", VARIABLES)
def test_kiwi_accepts_both_parts(tmp_path: Path, name: str) -> None:
    """The first has all packages and no later scripts, the second has scripts and no packages."""
    recipe = rendered(name, tmp_path / "recipe")
    add(recipe, USERS + DELETED)
    parts(recipe)
    for part in ("first", "second"):
        expand(tmp_path / part, "x86_64")
    folders = (recipe, tmp_path / "first", tmp_path / "second")
    whole, first, second = (etree.parse(folder / "config.xml") for folder in folders)
    assert {*names(whole)} == {*names(first), "perl"}
    assert names(second) == ["perl"]
    assert first.find("users") is None
    assert second.find("users") is not None
    assert not (tmp_path / "first/config.sh").exists()
    assert not (tmp_path / "second/post_bootstrap.sh").exists()
    assert (tmp_path / "second/config.whole.xml").read_bytes() == (recipe / "config.xml").read_bytes()


def append(name: str) -> Callable[[Path], None]:
    """A function that changes a file."""

    def change(recipe: Path) -> None:
        path = recipe / name
        content = path.read_bytes() if path.exists() else b""
        path.unlink(missing_ok=True)
        path.write_bytes(content + b"\n# more\n")

    return change


LATER: dict[str, Callable[[Path], None]] = {
    "config.sh": append("config.sh"),
    "images.sh": append("images.sh"),
    "overlay file": append("root/etc/motd"),
    "overlay archive": append("root.tar.gz"),
    "mode of a script": lambda recipe: (recipe / "config.sh").chmod(0o600),
    "a user": lambda recipe: add(recipe, USERS),
    "packages to remove": lambda recipe: add(recipe, DELETED),
}


@pytest.mark.parametrize("change", LATER.values(), ids=LATER)
def test_packages_stay(recipe: Path, change: Callable[[Path], None]) -> None:
    """A change of something that comes later does not change the first description."""
    before = parts(recipe)
    change(recipe)
    after = parts(recipe)
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_comments_have_no_effect(recipe: Path) -> None:
    """A comment changes neither description."""
    before = parts(recipe)
    add(recipe, "<!-- comment -->\n")
    assert parts(recipe)[0] == before[0]


EARLIER: dict[str, Callable[[Path], None]] = {
    "package": lambda recipe: add(recipe, '<packages type="image"><package name="vim"/></packages>'),
    "post_bootstrap.sh": append("post_bootstrap.sh"),
    "repository": lambda recipe: add(recipe, '<repository><source path="https://mirror.example/x"/></repository>'),
    "unknown file": append("made-up"),
    "archive among the packages": lambda recipe: add(recipe, ARCHIVE),
}


@pytest.mark.parametrize("change", EARLIER.values(), ids=EARLIER)
def test_packages_change(recipe: Path, change: Callable[[Path], None]) -> None:
    """A change that may decide the packages changes the first description."""
    before = parts(recipe)
    change(recipe)
    assert parts(recipe)[0] != before[0]


def test_archive_is_there_when_it_is_unpacked(recipe: Path) -> None:
    """An archive in a package section is not the overlay, whatever its name is. Files in a section come later."""
    append("root.tar.gz")(recipe)
    add(recipe, ARCHIVE)
    parts(recipe)
    assert (recipe.with_name("first") / "root.tar.gz").exists()
    second = etree.parse(recipe.with_name("second") / "config.xml")
    assert names(second, "file") == ["motd", "config.whole.xml"]
    assert names(second, "archive") == []


def test_recipe_is_not_changed(recipe: Path) -> None:
    """A step that is tried again finds the original recipe."""
    shutil.copytree(recipe, recipe.with_name("before"), symlinks=True)
    parts(recipe)
    assert archive.digest(recipe) == archive.digest(recipe.with_name("before"))
