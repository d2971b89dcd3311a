"""The build inputs that a job records before its build, and that are checked after it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ims.builder import inputs
from ims.errors import InputError
from ims.files import write_atomically
from ims.recipes.build_inputs import BuildInputs
from ims.recipes.build_inputs import Package as Resolved
from ims.recipes.network import RecipeNetwork
from ims.recipes.package_request import PackageRequest
from ims.recipes.plan import decide
from ims.recipes.reading import read_recipe
from ims.recipes.template import render
from ims.steps import package_prediction, resolve_packages
from ims.steps.package_prediction import ask_solver
from ims.steps.resolve_packages import Input
from ims.workspace import Workspace
from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import Package, RepositoryServer, basic_packages, build_repository

pytestmark = pytest.mark.system

BOOT_FILES: dict[str, str | None] = {"kernel_file_name": None, "initrd_file_name": "initrd"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the recipe requires, and a package that it does not request."""
    return build_repository(tmp_path_factory.mktemp("repository"), [*basic_packages(), Package("more")])


def summarize(workspace: Path, url: str, more: str = "") -> None:
    """Leave what `fetch_recipe` notes about the zypper recipe of the tests, with more elements among its packages."""
    folder, found = workspace / "recipe", Workspace(workspace)
    shutil.copytree(RECIPES / "zypper", folder)
    config = folder / "config.xml"
    config.write_text(config.read_text().replace("</packages>", f"{more}</packages>"))
    render(folder, {"REPOSITORY": url})
    found.notes.mkdir()
    read_recipe(folder, "x86_64").save(found.recipe_summary)


def resolved(workspace: Path, url: str) -> BuildInputs:
    """The build inputs that the step writes for the zypper recipe of the tests."""
    summarize(workspace, url)
    digest = resolve_packages.run(Input(workspace=workspace, arch="x86_64", boot_files=BOOT_FILES))
    found = BuildInputs.read(Workspace(workspace).build_inputs.read_bytes())
    assert found.packages_digest == digest
    return found


def install(workspace: Path, served: Path, *names: str) -> None:
    """Add packages to the rpm database of an image root."""
    database = workspace / "image-root/var/lib/rpm"
    database.mkdir(parents=True)
    files = [path for name in names for path in served.rglob(f"{name}-*.rpm")]
    command: list[str | Path] = [
        "rpm",
        "--dbpath",
        database,
        "--install",
        "--justdb",
        "--nodeps",
        "--noscripts",
        *files,
    ]
    subprocess.run(command, check=True, capture_output=True)


def test_build_inputs(tmp_path: Path, repository: Path) -> None:
    """They are complete, and name the packages if exactly these are installed."""
    with RepositoryServer(repository) as server:
        found = resolved(tmp_path, server.url)
        assert list(found.repositories) == [f"{server.url}/repodata/repomd.xml"]
    names = [package.name for package in found.packages or ()]
    assert names == ["busybox", "ca-certificates", "filesystem", "kernel-default"]
    assert found.builder["kiwi"] == "11.1.6"
    assert {"zypper", "rpm", "squashfs-tools"} <= set(found.builder)
    assert found.boot_files == BOOT_FILES
    install(tmp_path, repository, *names)
    assert inputs.check_installed(Workspace(tmp_path)) is None
    assert inputs.final_inputs(Workspace(tmp_path)) == found


def test_scripts_remove_packages(tmp_path: Path, repository: Path) -> None:
    """In a finished image, packages may be missing: the scripts will remove them in the next build, too."""
    with RepositoryServer(repository) as server:
        found = resolved(tmp_path, server.url)
    install(tmp_path, repository, "busybox")
    assert inputs.final_inputs(Workspace(tmp_path)) == found


def test_scripts_install_packages(tmp_path: Path, repository: Path) -> None:
    """The packages of the next build cannot be predicted if a script installs other packages."""
    with RepositoryServer(repository) as server:
        resolved(tmp_path, server.url)
    install(tmp_path, repository, "busybox", "more")
    found = inputs.final_inputs(Workspace(tmp_path))
    assert found is not None
    assert found.packages is None
    assert "more.x86_64 1.0-1" in found.unknown


def test_database_that_cannot_be_read(tmp_path: Path, repository: Path) -> None:
    """If the packages of the image are unknown, the next plan says `build`, even if nothing changed."""
    with RepositoryServer(repository) as server:
        predicted = resolved(tmp_path, server.url)
    install(tmp_path, repository, *(package.name for package in predicted.packages or ()))
    database = tmp_path / "image-root/var/lib/rpm"
    for path in database.iterdir():
        path.write_bytes(b"damaged")
    note_mismatch(Workspace(tmp_path))
    for found in (inputs.final_inputs(Workspace(tmp_path)), without_mismatch(tmp_path)):
        assert found is not None
        assert found.packages is None
        assert "cannot be read" in found.unknown
        assert decide(found, predicted, list).verdict == "build"
    shutil.rmtree(database)
    found = without_mismatch(tmp_path)
    assert found is not None
    assert "no package database" in found.unknown


def note_mismatch(workspace: Workspace) -> None:
    """Note that other packages are installed than predicted, as `build_image` does."""
    mismatch = inputs.check_installed(workspace)
    assert mismatch is not None
    write_atomically(workspace.package_mismatch, mismatch)


def without_mismatch(workspace: Path) -> BuildInputs | None:
    """The build inputs of an image that came from a kept package root, whose packages were right."""
    Workspace(workspace).package_mismatch.unlink(missing_ok=True)
    return inputs.final_inputs(Workspace(workspace))


def test_nothing_was_predicted(tmp_path: Path) -> None:
    """An image that was customized has no build inputs."""
    assert inputs.check_installed(Workspace(tmp_path)) == "no packages were predicted"
    assert inputs.final_inputs(Workspace(tmp_path)) is None


@pytest.mark.parametrize(
    "others", [("busybox", "ca-certificates", "filesystem", "kernel-default", "more"), ("busybox",)]
)
def test_image_with_other_packages(tmp_path: Path, repository: Path, others: tuple[str, ...]) -> None:
    """If other packages were installed than predicted, those of the next build cannot be predicted either."""
    with RepositoryServer(repository) as server:
        resolved(tmp_path, server.url)
    install(tmp_path, repository, *others)
    note_mismatch(Workspace(tmp_path))
    found = inputs.final_inputs(Workspace(tmp_path))
    assert found is not None
    assert found.packages is None
    assert "more.x86_64 1.0-1" in found.unknown or "filesystem" in found.unknown


def test_unavailable_repository(tmp_path: Path, repository: Path) -> None:
    """The job continues without build inputs."""
    with RepositoryServer(repository) as server:
        summarize(tmp_path, server.url)
        server.fail(404)
        step = Input(workspace=tmp_path, arch="x86_64", boot_files=BOOT_FILES)
        assert resolve_packages.run(step) is None
    assert not Workspace(tmp_path).build_inputs.exists()


def test_missing_package(tmp_path: Path, repository: Path) -> None:
    """The job fails before the build, unless a script can add a repository."""
    step = Input(workspace=tmp_path, arch="x86_64", boot_files=BOOT_FILES)
    with RepositoryServer(repository) as server:
        summarize(tmp_path, server.url, '<package name="no-such-thing"/>')
        with pytest.raises(InputError, match="no repository has a package no-such-thing"):
            resolve_packages.run(step)
        (tmp_path / "recipe/post_bootstrap.sh").write_text("#!/bin/sh\n")
        read_recipe(tmp_path / "recipe", "x86_64").save(Workspace(tmp_path).recipe_summary)
        assert resolve_packages.run(step) is None
    found = BuildInputs.read(Workspace(tmp_path).build_inputs.read_bytes())
    assert found.unknown == "no repository has a package no-such-thing"


def test_unpredictable_packages(tmp_path: Path, repository: Path) -> None:
    """All other inputs are recorded, and the reason."""
    with RepositoryServer(repository) as server:
        summarize(tmp_path, server.url, '<product name="SLES"/>')
        step = Input(workspace=tmp_path, arch="x86_64", boot_files=BOOT_FILES)
        assert resolve_packages.run(step) is None
    found = BuildInputs.read(Workspace(tmp_path).build_inputs.read_bytes())
    assert (found.packages, found.unknown) == (None, "the recipe has <product>")


def again(workspace: Path, url: str) -> set[str]:
    """The packages that the step predicts in a new workspace."""
    workspace.mkdir()
    return {f"{package.name} {package.version}" for package in resolved(workspace, url).packages or ()}


def newer_busybox() -> Package:
    """The package busybox with a higher version."""
    (busybox,) = (package for package in basic_packages() if package.name == "busybox")
    return replace(busybox, version="2.0")


def test_solver_is_not_asked_twice(tmp_path: Path) -> None:
    """If the index is the same, only the index is fetched. A new index is noticed."""
    served = build_repository(tmp_path / "served", basic_packages())
    with RepositoryServer(served) as server:
        first = again(tmp_path / "1", server.url)
        server.requests.clear()
        assert again(tmp_path / "2", server.url) == first
        assert server.requests == ["GET /repodata/repomd.xml 200"]
        build_repository(served, [newer_busybox()])
        assert "busybox 2.0-1" in again(tmp_path / "3", server.url)


def test_published_while_the_solver_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The solution may be based on either index, so it is not cached."""
    served = build_repository(tmp_path / "served", basic_packages())

    def publish(wanted: PackageRequest, folder: Path, network: RecipeNetwork) -> list[Resolved]:
        build_repository(served, [newer_busybox()])
        return ask_solver(wanted, folder, network)

    before = (served / "repodata/repomd.xml").read_bytes()
    with RepositoryServer(served) as server:
        monkeypatch.setattr(package_prediction, "ask_solver", publish)
        assert "busybox 2.0-1" in again(tmp_path / "1", server.url)
        monkeypatch.undo()
        (served / "repodata/repomd.xml").write_bytes(before)
        server.requests.clear()
        again(tmp_path / "2", server.url)
        assert len(server.requests) > 1
