"""The second package database that kiwi leaves in an image whose rpm uses another format than the builder's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ims.builder.rpm_database import single_database
from ims.images import rpm
from tests.images.rpm_databases import build_packages, make_database

pytestmark = pytest.mark.system
PLACE = "usr/lib/sysimage/rpm"


def start_kiwi(root: Path) -> None:
    """Do to a root what kiwi does when it starts."""
    (root / "var/lib").mkdir(parents=True, exist_ok=True)
    (root / "var/lib/rpm").symlink_to("../../usr/lib/sysimage/rpm")
    subprocess.run(["rpm", "--dbpath", root / PLACE, "--initdb"], check=True)


def formats(root: Path) -> list[str]:
    """The formats of the databases of a root."""
    return sorted(found.format for found in rpm.find_databases(root))


def test_empty_database_is_removed(tmp_path: Path) -> None:
    """That of the image stays as it was."""
    before = make_database(tmp_path / PLACE, "ndb", build_packages(tmp_path)).read_bytes()
    with single_database(tmp_path):
        start_kiwi(tmp_path)
        assert formats(tmp_path) == ["ndb", "sqlite"]
    assert not (tmp_path / "var/lib/rpm").is_symlink()
    assert formats(tmp_path) == ["ndb"]
    assert not list((tmp_path / PLACE).glob("rpmdb.sqlite*"))
    assert (tmp_path / PLACE / "Packages.db").read_bytes() == before


def test_database_with_packages_is_kept(tmp_path: Path) -> None:
    """A script of the recipe has made it."""
    packages = build_packages(tmp_path)
    make_database(tmp_path / PLACE, "ndb", packages)
    with single_database(tmp_path):
        make_database(tmp_path / "other", "sqlite", packages)
        (tmp_path / "other/rpmdb.sqlite").rename(tmp_path / PLACE / "rpmdb.sqlite")
    assert formats(tmp_path) == ["ndb", "sqlite"]


def test_first_database_is_kept(tmp_path: Path) -> None:
    """An image without packages of rpm may get some."""
    (tmp_path / PLACE).mkdir(parents=True)
    with single_database(tmp_path):
        start_kiwi(tmp_path)
    assert formats(tmp_path) == ["sqlite"]


def test_links_of_the_image_are_not_followed(tmp_path: Path) -> None:
    """A script could make the folder a link to one of the builder."""
    root, victim = tmp_path / "root", tmp_path / "victim"
    victim.mkdir()
    make_database(root / PLACE, "ndb", build_packages(tmp_path))
    with single_database(root):
        (root / "var").mkdir()
        (root / "var/lib").symlink_to(victim)
        (victim / "rpm").symlink_to("somewhere")
    assert (victim / "rpm").is_symlink()
