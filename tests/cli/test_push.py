"""`ims recipes push` checks a recipe before it uploads it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.fake_service import FakeService, Program, connect_to
from tests.flows.conftest import RECIPES

VARIABLE = ("--var", "REPOSITORY=http://repository.example")


@pytest.fixture
def fake() -> FakeService:
    """A service without records."""
    return FakeService()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where the program uploads to."""
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def program(fake: FakeService, monkeypatch: pytest.MonkeyPatch, store: Path) -> Program:
    """The program, connected to the service."""
    return connect_to(fake, monkeypatch, store)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe that can be changed."""
    return Path(shutil.copytree(RECIPES / "zypper", tmp_path / "recipe"))


def uploads(store: Path) -> list[str]:
    """The uploaded archives."""
    return [path.name for path in store.iterdir() if path.name.endswith(".tar.gz")]


def test_good_recipe(program: Program, store: Path, recipe: Path) -> None:
    """It is uploaded and registered."""
    assert program.json("recipes", "push", recipe, *VARIABLE)["name"] == "recipe"
    assert len(uploads(store)) == 1


def test_one_problem(program: Program, fake: FakeService, store: Path, recipe: Path) -> None:
    """The error names it. Nothing is uploaded."""
    done = program.run("recipes", "push", recipe)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "Error: config.xml, line 16: the template variable REPOSITORY has no value: set --var"
    )
    assert (fake.records["recipes"], uploads(store)) == ([], [])


def test_many_problems(program: Program, fake: FakeService, store: Path, recipe: Path) -> None:
    """Each has a line of its own."""
    (recipe / "config.sh").write_text("suseRemoveYaST\nbaseStripDocs\nbaseMount\n")
    done = program.run("recipes", "push", recipe)
    assert done.code == 2
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [
        "config.sh, line 1",
        "config.sh, line 2",
        "config.xml, line 16",
    ]
    assert lines[-1] == "Error: the recipe has 3 problems. Correct them, then push it again"
    assert (fake.records["recipes"], uploads(store)) == ([], [])


def test_what_is_left_out(program: Program, recipe: Path) -> None:
    """The names of files that are not packed are printed."""
    for name in ("._config.xml", "root/etc/motd~"):
        (recipe / name).parent.mkdir(parents=True, exist_ok=True)
        (recipe / name).touch()
    assert program.run("recipes", "push", recipe, *VARIABLE).stderr == "left out: ._config.xml, root/etc/motd~\n"
