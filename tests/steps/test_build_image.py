"""Builds with kiwi-ng and real package managers and repositories: the build inputs alone decide the bytes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ims.removal import remove
from ims.settings import settings
from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import Package, RepositoryServer, basic_packages, build_repository
from tests.images.trees import unmount
from tests.steps.building import Builder

pytestmark = pytest.mark.system

HOSTS = "127.0.0.1 localhost\n192.0.2.1 nexus\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RepositoryServer]:
    """A repository with a package that has a file which kiwi replaces during a build.

    Another package downloads the file `more.txt`, which is no package, when it is installed.
    """
    hosts = Package("hosts", files={"/etc/hosts": HOSTS.encode()}, requires=("filesystem",))
    folder = tmp_path_factory.mktemp("repository")
    with RepositoryServer(folder) as running:
        post = f"wget -O /etc/package {running.url}/more.txt"
        downloader = Package("downloader", post=post, requires=("busybox",))
        build_repository(folder, [*basic_packages(), hosts, downloader])
        (folder / "more.txt").write_text("downloaded")
        yield running


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
    assert first.network.hosts
    assert first.network.downloads == ()
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
    (before,) = folder.glob("*.squashfs")
    assert REUSED not in builder.build(packages="two").log
    (after,) = folder.glob("*.squashfs")
    assert after != before
    builder.build(packages="three", predicted=False)
    assert list(folder.glob("*.squashfs")) == [after]
    assert {path.name.rpartition(".")[0].startswith(after.stem) for path in folder.iterdir()} == {True}
    config = builder.recipe / "config.xml"
    config.write_text(config.read_text().replace('<package name="hosts"/>', ""))
    built = builder.build(packages="two")
    assert REUSED not in built.log
    assert not (built.root / "etc/hosts").exists()


@pytest.mark.parametrize("builder", ["zypper"], indirect=True)
def test_downloads_of_scripts_are_noted(builder: Builder, server: RepositoryServer) -> None:
    """Plans do not see what scripts download from the host of a repository. The package root is not kept, either."""
    host, name = server.url.removeprefix("http://"), "etc/script"
    for script in ("post_bootstrap.sh", "config.sh"):
        text = f"#!/bin/bash\nset -e\nwget -O /{name} {server.url}/more.txt\ncat /{name} >> /{name}s\n"
        (builder.recipe / script).write_text(text)
    config = builder.recipe / "config.xml"
    config.write_text(config.read_text().replace("</packages>", '<package name="downloader"/></packages>'))
    built = builder.build(packages="known")
    assert (built.root / "etc/package").read_text() == "downloaded"
    assert (built.root / f"{name}s").read_text() == "downloaded" * 2
    assert built.network.downloads == (
        f"a program that is not the package manager contacted {host} in the last build",
        f"post_bootstrap.sh contacted {host} in the last build",
        f"config.sh or images.sh contacted {host} in the last build",
    )
    assert not list((settings().home / "cache" / "roots").glob(f"{builder.folder.name}/*"))
