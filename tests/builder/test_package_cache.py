"""The package caches of lineages, to which hostile programs may have written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ims.builder.package_cache import keep_only, package_cache
from ims.recipes.build_inputs import BuildInputs, Package
from ims.workspace import Workspace

GOOD = b"a package of the repository"


@pytest.fixture
def workspace(tmp_path: Path, configure: Callable[..., None]) -> Workspace:
    """A job that will install one package."""
    configure(home=tmp_path / "home")
    made = Workspace(tmp_path / "workspace")
    made.notes.mkdir(parents=True)
    return made


def predict(workspace: Workspace, *contents: bytes) -> None:
    """Predict packages with these contents."""
    packages = [
        Package(name=f"p{number}", version="1", arch="noarch", checksum=hashlib.sha256(content).hexdigest())
        for number, content in enumerate(contents)
    ]
    known = BuildInputs(
        description="",
        bootstrap_script="",
        files="",
        arch="x86_64",
        builder={},
        ca_certificate="",
        boot_files={},
        repositories={},
        packages=tuple(packages),
    )
    workspace.build_inputs.write_text(known.model_dump_json())


def test_only_packages_with_known_checksums_are_kept(tmp_path: Path) -> None:
    """Other content under the name of a package, indexes, links and second names are removed."""
    folder, outside = tmp_path / "cache", tmp_path / "outside"
    (folder / "archives").mkdir(parents=True)
    outside.write_bytes(GOOD)
    (folder / "archives/good.deb").write_bytes(GOOD)
    (folder / "archives/evil.deb").write_bytes(GOOD[:-1] + b"X")
    (folder / "lists").write_text("an index")
    (folder / "link.deb").symlink_to(outside)
    (folder / "folder").symlink_to(tmp_path)
    os.link(outside, folder / "linked.deb")
    os.mkfifo(folder / "pipe.deb")
    keep_only(folder, {hashlib.sha256(GOOD).hexdigest(), hashlib.sha1(b"other").hexdigest()})  # noqa: S324
    assert sorted(path.name for path in folder.rglob("*")) == ["archives", "good.deb"]
    assert outside.read_bytes() == GOOD


def test_deep_folders(tmp_path: Path) -> None:
    """A tree that no package manager makes is removed as a whole."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "good.deb").write_bytes(GOOD)
    here = os.open(folder, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deep", dir_fd=here)
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    keep_only(folder, {hashlib.sha256(GOOD).hexdigest()})
    assert list(folder.iterdir()) == []


def test_folder_of_the_lineage(workspace: Workspace) -> None:
    """It is used by one job at a time, whose packages must be known. Others get an empty one."""
    with package_cache("lineage", workspace) as unknown:
        assert unknown == workspace.package_cache
    predict(workspace, GOOD)
    with package_cache("lineage", workspace) as first, package_cache("lineage", workspace) as second:
        assert first.name == "lineage"
        assert second == workspace.package_cache
        (first / "good.deb").write_bytes(GOOD)
        (first / "evil.deb").write_bytes(b"evil")
    with package_cache("lineage", workspace) as again:
        assert [path.name for path in again.iterdir()] == ["good.deb"]
