"""Builds with kiwi-ng and real package managers and repositories: the build inputs alone decide the bytes."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ims.builder import package_root
from ims.builder.squashfs import make_rootfs
from ims.removal import remove
from ims.sandbox import namespaces
from ims.sandbox.overlay import mount_image
from ims.settings import settings
from ims.steps import build_ca_package, resolve_packages
from ims.workspace import Workspace
from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import Package, RepositoryServer, basic_packages, build_repository
from tests.images.trees import unmount
from tests.recipes.summary import note_recipe

pytestmark = pytest.mark.system

HOSTS = "127.0.0.1 localhost\n192.0.2.1 nexus\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RepositoryServer]:
    """A repository with a package that has a file which kiwi replaces during a build."""
    hosts = Package("hosts", files={"/etc/hosts": HOSTS.encode()}, requires=("filesystem",))
    folder = build_repository(tmp_path_factory.mktemp("repository"), [*basic_packages(), hosts])
    with RepositoryServer(folder) as running:
        yield running


@dataclass
class Built:
    """An image root, its squashfs and the log of the build."""

    root: Path
    rootfs: bytes
    log: str


class Builder:
    """Builds a recipe repeatedly, each time in a new workspace."""

    def __init__(self, recipe: Path, manager: str, folder: Path) -> None:
        self.recipe, self.manager, self.folder = recipe, manager, folder
        self._count = 0

    def build(
        self,
        packages: str | None = None,
        hours: int | None = None,
        predicted: bool = True,
        path: str = "",
        force: bool = False,
    ) -> Built:
        """Run the step with a digest of its `packages`, which were `predicted` or not, `hours` later.

        It finds programs in the folder `path` first. With `force`, it uses nothing of an earlier build.
        """
        self._count += 1
        packages = packages and f"{packages} {self.folder}"
        workspace = self.folder / f"job-{self._count}"
        shutil.copytree(self.recipe, workspace / "recipe", symlinks=True)
        note_recipe(Workspace(workspace))
        if packages is not None and predicted:
            resolve_packages.run(resolve_packages.Input(workspace=workspace, arch=platform.machine(), boot_files={}))
        made = build_ca_package.run(build_ca_package.Input(workspace=workspace, package_manager=self.manager))
        data: dict[str, object] = {
            "workspace": str(workspace),
            "lineage": self.folder.name,
            "package_manager": self.manager,
        }
        data |= {"ca_package": made, "force": force} | ({} if packages is None else {"packages": packages})
        program = ["tests.steps.build_later", str(hours), json.dumps(data)]
        if hours is None:
            program = ["ims.steps", "build_image", "--result", str(workspace / "result")]
        command = [*namespaces.STEP, sys.executable, "-m", *program]
        done = subprocess.run(
            command,
            env=os.environ | {"PATH": f"{path}:{os.environ['PATH']}"},
            input=json.dumps(data),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        if (found := package_root.layers(Workspace(workspace))) is not None:
            mount_image(found.rootfs, found.changes, found.target, redirect=found.redirect)
        make_rootfs(workspace / "image-root", workspace / "rootfs")
        return Built(workspace / "image-root", (workspace / "rootfs").read_bytes(), done.stdout)


@pytest.fixture(params=["zypper", "dnf4"])
def builder(request: pytest.FixtureRequest, server: RepositoryServer, tmp_path: Path) -> Iterator[Builder]:
    """A small recipe of each package manager."""
    recipe = tmp_path / "recipe"
    shutil.copytree(RECIPES / request.param.rstrip("4"), recipe)
    config = (recipe / "config.xml").read_text().replace("{{ REPOSITORY }}", server.url)
    more = '<package name="hosts"/></packages>'
    (recipe / "config.xml").write_text(config.replace("</packages>", more))
    # kiwi makes the folder of the package cache in the image root before it installs packages. As in an installation,
    # the caches of lineages and of workspaces are in the same place: one in /tmp would change the mode of /tmp.
    builds = settings().home / "builds"
    builds.mkdir(mode=0o700, exist_ok=True)
    folder = builds / tmp_path.name
    folder.mkdir()
    yield Builder(recipe, request.param, folder)
    unmount(folder)
    remove(folder)


REUSED = "using the package root of an earlier build"
NO_SQUASHFS = """\
#!/bin/sh
case "$*" in *squashfs*) echo "mount: failed to set up a loop device" >&2; exit 32;; esac
exec /usr/bin/mount "$@"
"""


def test_same_bytes_later_and_from_a_cached_package_root(builder: Builder) -> None:
    """Time, workspace and a cached package root have no effect. A script has."""
    first = builder.build(packages="known")
    assert (first.root / "etc/hosts").read_text() == HOSTS
    assert (first.root / "etc/flow-test-images").exists()
    assert builder.build(hours=30).rootfs == first.rootfs
    (builder.recipe / "root/etc").mkdir(parents=True)
    (builder.recipe / "root/etc/motd").write_text("welcome\n")
    now = time.time()
    os.utime(builder.recipe / "root/etc/motd", (now, now))
    (builder.recipe / "config.sh").write_text("#!/bin/bash\ncat /etc/motd > /etc/issue; echo 1 >> /etc/hosts\n")
    again = builder.build(packages="known")
    # The recipe is packed again on a machine whose clock is ahead.
    os.utime(builder.recipe / "root/etc/motd", (now + 86400,) * 2)
    cold = builder.build(packages="known", force=True)
    assert REUSED in again.log
    assert REUSED not in first.log + cold.log
    assert (again.root / "etc/issue").read_text() == "welcome\n"
    assert (again.root / "etc/hosts").read_text() == HOSTS
    assert again.rootfs == cold.rootfs != first.rootfs
    # Without loop devices, the package root is unpacked.
    (builder.folder / "bin").mkdir()
    (builder.folder / "bin/mount").write_text(NO_SQUASHFS)
    (builder.folder / "bin/mount").chmod(0o755)
    unpacked = builder.build(packages="known", path=str(builder.folder / "bin"))
    assert "failed to set up a loop device" in unpacked.log
    assert unpacked.rootfs == cold.rootfs


@pytest.mark.parametrize("builder", ["zypper"], indirect=True)
def test_package_root_is_used_only_for_the_same_packages(builder: Builder) -> None:
    """If the packages or their description change, they are installed again. Only the newest package root is kept.

    A package root is not kept if its packages were not predicted.
    """
    builder.build(packages="one")
    folder = settings().home / "cache" / "roots" / builder.folder.name
    (before,) = folder.iterdir()
    assert REUSED not in builder.build(packages="two").log
    (after,) = folder.iterdir()
    assert after != before
    builder.build(packages="three", predicted=False)
    assert list(folder.iterdir()) == [after]
    config = builder.recipe / "config.xml"
    config.write_text(config.read_text().replace('<package name="hosts"/>', ""))
    built = builder.build(packages="two")
    assert REUSED not in built.log
    assert not (built.root / "etc/hosts").exists()
