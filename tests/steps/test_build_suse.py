"""Images like SUSE's: the rpm of the image keeps its packages in the format ndb, that of the builder cannot."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ims.builder import inputs
from ims.images import rpm
from ims.images.inventory import read_inventory
from ims.images.packages import installed_packages
from ims.images.sbom import read_sbom, write_sbom
from ims.recipes.plan import decide
from ims.recipes.reading import RenderedRecipe
from ims.removal import remove
from ims.settings import settings
from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import Package, RepositoryServer, basic_packages, build_repository
from tests.images.suse_rpm import DATABASE, suse_rpm
from tests.images.trees import unmount
from tests.steps.building import Builder

pytestmark = pytest.mark.system

NAMES = {"busybox", "ca-certificates", "filesystem", "kernel-default", "rpm", "site-root-ca"}
MORE = """<package name="rpm"/><package name="unused"/></packages>
<packages type="delete"><package name="unused"/></packages>
"""


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Builder]:
    """A recipe for zypper that installs SUSE's rpm, and has it remove a package."""
    packages = [*basic_packages(), suse_rpm(), Package("unused", requires=("filesystem",))]
    shutil.copytree(RECIPES / "zypper", tmp_path / "recipe")
    folder = settings().home / "builds" / tmp_path.name
    folder.mkdir(mode=0o700, parents=True)
    with RepositoryServer(build_repository(tmp_path / "repository", packages)) as server:
        config = (tmp_path / "recipe/config.xml").read_text().replace("{{ REPOSITORY }}", server.url)
        (tmp_path / "recipe/config.xml").write_text(config.replace("</packages>", MORE))
        yield Builder(tmp_path / "recipe", "zypper", folder)
    unmount(folder)
    remove(folder)


def test_rpm_of_the_image_keeps_ndb(builder: Builder) -> None:
    """kiwi has it convert the database. The packages are known in the image, in its SBOM and to plans."""
    built = builder.build(packages="known")
    assert [(str(found.path), found.format) for found in rpm.find_databases(built.root)] == [
        (str(built.root / DATABASE), "ndb")
    ]
    assert {name.partition(".")[0] for name in installed_packages(built.root)} == NAMES
    listed = read_sbom(write_sbom(read_inventory(built.root)).encode(), "x").packages
    assert {package.name for package in listed or ()} == NAMES
    stated = inputs.final_inputs(built.workspace)
    assert stated is not None
    assert {package.name for package in stated.packages or ()} == NAMES - {"site-root-ca"} | {"unused"}, stated.unknown
    now = inputs.collect(RenderedRecipe.load(built.workspace.recipe_summary), platform.machine(), {})
    assert decide(stated, now, list).verdict == "skip"
