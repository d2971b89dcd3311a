"""`ims recipes push` checks a recipe before it uploads it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ims.cli import pushing
from ims.cli.pushing import check_packages
from ims.recipes.package_request import UnknownPackagesError
from ims.recipes.reading import RenderedRecipe
from tests.cli.fake_service import FakeService, Program, connect_to
from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import PrivateCA, RepositoryServer, basic_packages, build_repository

VARIABLE = ("--var", "REPOSITORY=http://repository.example")
NOTE = "the packages were not checked here, but the job will check them: "


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


@pytest.fixture
def trusted(
    configure: Callable[..., None], private_ca: PrivateCA, program: Program, monkeypatch: pytest.MonkeyPatch
) -> Program:
    """The program on a machine that can build: it has the site's CA certificate."""
    configure(ca_certificate=private_ca.certificate)
    monkeypatch.setattr(pushing, "check_packages", check_packages)
    return program


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the recipe requires."""
    return build_repository(tmp_path_factory.mktemp("repository"), basic_packages())


@pytest.mark.system
def test_packages_that_no_repository_has(trusted: Program, store: Path, recipe: Path, repository: Path) -> None:
    """They are named with everything else that is wrong, before anything is uploaded."""
    config = recipe / "config.xml"
    with RepositoryServer(repository) as server:
        variable = ("--var", f"REPOSITORY={server.url}")
        done = trusted.run("recipes", "push", recipe, *variable)
        assert (done.code, done.stderr) == (0, "")
        more = '<package name="kernel-defautl"/><package name="no-such-package"/></packages>'
        config.write_text(config.read_text().replace("</packages>", more, 1))
        (recipe / "config.sh").write_text("suseRemoveYaST\n")
        done = trusted.run("recipes", "push", recipe, *variable)
    lines = done.stderr.splitlines()
    assert lines[0].startswith("config.sh, line 1: ")
    assert lines[1:] == [
        "no repository has the packages: kernel-defautl, no-such-package",
        "Error: the recipe has 2 problems. Correct them, then push it again",
    ]
    assert len(uploads(store)) == 1


@pytest.mark.system
def test_repository_that_cannot_be_reached(trusted: Program, recipe: Path, repository: Path) -> None:
    """A note says that the packages were not checked, and the recipe is pushed."""
    with RepositoryServer(repository) as server:
        gone = f"REPOSITORY={server.url}"
    done = trusted.run("recipes", "push", recipe, "--var", gone)
    assert done.code == 0
    assert done.stderr.startswith(NOTE)


@pytest.mark.parametrize(
    ("variable", "change", "reason"),
    [
        ("secret:nexus", ("", ""), "only the service knows the secrets of the recipe"),
        ("http://x.example", ('path="{{ REPOSITORY }}"', 'path="obs://a/b"'), "not http or https"),
    ],
    ids=["secret", "obs"],
)
def test_packages_that_cannot_be_checked(
    program: Program,
    recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    change: tuple[str, str],
    reason: str,
) -> None:
    """A note gives the reason: addresses that only the service knows, or a repository that only kiwi-ng can read."""

    def check(found: RenderedRecipe) -> None:
        assert found.request is None
        raise UnknownPackagesError(found.unknown)

    monkeypatch.setattr(pushing, "check_packages", check)
    config = recipe / "config.xml"
    config.write_text(config.read_text().replace(*change))
    done = program.run("recipes", "push", recipe, "--var", f"REPOSITORY={variable}")
    assert done.code == 0
    assert done.stderr.startswith(NOTE)
    assert reason in done.stderr


def test_packages_without_root(program: Program, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note says that only root can check them."""
    monkeypatch.setattr(pushing, "check_packages", check_packages)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert program.run("recipes", "push", recipe, *VARIABLE).stderr == f"{NOTE}only root can make the sandbox for it\n"
