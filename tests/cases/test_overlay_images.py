"""Images of recipes whose overlay has modes, links and capabilities, built with kiwi-ng and dnf."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ims.recipes.overlay import CAPABILITY
from tests.cases.test_overlays import LINKS, MODES, NET_RAW, with_capability
from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import RepositoryServer, basic_packages, build_repository
from tests.images.trees import unmount
from tests.recipes.test_archive import hardlink, member, packed, symlink, unpack
from tests.steps.building import Builder
from tests.steps.test_build_image import REUSED

pytestmark = pytest.mark.system


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RepositoryServer]:
    """A repository with the packages of the recipe."""
    with RepositoryServer(build_repository(tmp_path_factory.mktemp("repository"), basic_packages())) as running:
        yield running


def test_image(server: RepositoryServer, tmp_path: Path) -> None:
    """The image has the overlay as it is in the archive, even if it is built from a cached package root."""
    config = (RECIPES / "dnf/config.xml").read_text().replace("{{ REPOSITORY }}", server.url).encode()
    members = [
        *MODES.values(),
        *(symlink(*link) for link in LINKS.items()),
        with_capability(member("root/usr/bin/site-ping", b"x", mode=0o755)),
        symlink("root/usr/bin/stool", "site-ping"),
        hardlink("root/usr/bin/st", "root/usr/bin/stool"),
        symlink("root/etc/passwd-link", "/etc/passwd"),
    ]
    recipe = unpack(packed(member("config.xml", config), *members), tmp_path)
    try:
        builder = Builder(recipe, "dnf4", tmp_path / "builds")
        first, again = (builder.build(packages="known") for _ in range(2))
        assert REUSED in again.log
        assert again.rootfs == first.rootfs
        root = again.root
        found = {name: stat.S_IMODE((root / name[5:]).lstat().st_mode) for name in MODES}
        assert found == {name: info.mode for name, (info, _) in MODES.items()}
        assert {name: os.readlink(root / name[5:]) for name in LINKS} == LINKS  # noqa: PTH115
        assert os.readlink(root / "usr/bin/st") == "site-ping"  # noqa: PTH115
        assert os.getxattr(root / "usr/bin/site-ping", CAPABILITY) == NET_RAW
        assert (root / "etc/shadow").lstat().st_uid == 0
    finally:
        unmount(tmp_path)
