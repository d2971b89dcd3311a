"""Package roots that one build keeps for the next."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest

from ims.builder import package_root
from ims.cache import ROOTS, claimed_by
from ims.runtime.local import caches
from ims.runtime.local.runtime import LocalRuntime
from ims.sandbox.overlay import mount_image
from ims.settings import settings
from ims.workspace import Workspace
from tests.images.trees import snapshot, unmount
from tests.steps.test_package_artifacts import write_root

pytestmark = pytest.mark.system


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A package root with files of every type."""
    return write_root(tmp_path / "package-root")


def save(recipe_id: str, key: str, root: Path) -> None:
    """Pack a package root and keep it, like a build does."""
    workspace = Workspace(root.parent)
    package_root.pack(workspace.package_root, workspace)
    assert workspace.packed_root.exists()
    package_root.save(recipe_id, key, workspace)


@pytest.fixture
def recipe_id() -> str:
    """A recipe without any package root."""
    return str(uuid4())


class Job(NamedTuple):
    """The workspace of a job, and its image root."""

    workspace: Workspace
    root: Path

    def restore(self, key: str) -> bool:
        """Restore and mount a package root like a build does."""
        found = package_root.restore(key, self.workspace)
        if found:
            self.mount()
        return found

    def mount(self) -> None:
        """Mount the image root like the steps after the build do."""
        if (found := package_root.layers(self.workspace)) is not None:
            mount_image(found.rootfs, found.changes, found.target, redirect=found.redirect)

    def unmount(self) -> None:
        """Unmount it, as the end of a step does."""
        unmount(self.workspace.root)


@pytest.fixture
def job() -> Iterator[Job]:
    """A job whose workspace is closed in any case."""
    workspace = Workspace(LocalRuntime().open_workspace(str(uuid4()), 0))
    made = Job(workspace, workspace.image_root)
    yield made
    made.unmount()
    LocalRuntime().close_workspace(workspace.job_id)


def cached_files(recipe_id: str) -> list[Path]:
    """The files in the cache of a recipe."""
    folder = settings().home / "cache" / "roots" / recipe_id
    return [path for path in folder.iterdir() if path.suffix == ".squashfs"]


@pytest.mark.parametrize("splices", [True, False])
def test_list_of_files(root: Path, recipe_id: str, configure: Callable[..., None], splices: bool) -> None:
    """The files are listed only if builds derive their lists from that: every file must be read."""
    configure(squashfs_splice_builds=splices)
    save(recipe_id, recipe_id, root)
    folder = settings().home / "cache" / "roots" / recipe_id
    assert len(list(folder.glob("*.files"))) == splices


def test_restored_root_is_identical(recipe_id: str, root: Path, job: Job) -> None:
    """Owners, times, links, attributes and devices are the same."""
    save(recipe_id, recipe_id, root)
    assert job.restore(recipe_id)
    assert snapshot(job.root) == snapshot(root)


def test_changes_stay_with_the_job(recipe_id: str, root: Path, job: Job) -> None:
    """The next step of the job sees them, the next build does not."""
    save(recipe_id, recipe_id, root)
    for _try in range(2):
        assert job.restore(recipe_id)
        assert snapshot(job.root) == snapshot(root)
        (job.root / "usr").rename(job.root / "opt")
        (job.root / "opt/new").write_text("new\n")
        changed = snapshot(job.root)
        job.unmount()
        assert list(job.root.iterdir()) == []
        job.mount()
        assert snapshot(job.root) == changed
        job.unmount()
    package_root.discard(job.workspace)
    job.mount()
    assert list(job.root.iterdir()) == []


def test_other_key_finds_nothing(recipe_id: str, root: Path, job: Job) -> None:
    """A package root with another key replaces the last one."""
    one, two = f"{recipe_id}-1", f"{recipe_id}-2"
    assert not job.restore(one)
    save(recipe_id, one, root)
    assert not job.restore(one[:-1])
    save(recipe_id, two, root)
    assert not job.restore(one)
    assert len(cached_files(recipe_id)) == 1
    assert not job.root.exists()


def test_claimed_root_is_kept(recipe_id: str, root: Path, job: Job) -> None:
    """Between two steps only the claim protects it, both from newer package roots and from the sweep."""
    save(recipe_id, "one", root)
    (entry,) = [entry for entry in caches.entries() if entry.path.name == recipe_id]
    assert not caches.is_in_use(entry)
    assert job.restore("one")
    job.unmount()
    assert not caches.remove(entry)
    save(recipe_id, "two", root)
    assert len(cached_files(recipe_id)) == 2
    job.mount()
    assert snapshot(job.root) == snapshot(root)
    job.unmount()
    LocalRuntime().close_workspace(job.workspace.job_id)
    save(recipe_id, "three", root)
    assert len(cached_files(recipe_id)) == 1
    assert caches.remove(entry)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: bytes(len(data))])
def test_damaged_root_is_not_used(
    recipe_id: str, root: Path, job: Job, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    """It is removed, and the log says so."""
    save(recipe_id, recipe_id, root)
    (path,) = cached_files(recipe_id)
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert not job.restore(recipe_id)
    assert "cannot be used" in caplog.text
    assert cached_files(recipe_id) == []
    assert claimed_by(ROOTS, job.workspace) is None
    assert not job.root.exists()


def test_removed_before_it_is_claimed(
    recipe_id: str, root: Path, job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The build and the steps after it work without it."""
    save(recipe_id, recipe_id, root)
    (path,) = cached_files(recipe_id)
    monkeypatch.setattr(Path, "glob", lambda _folder, _pattern: iter([path.with_name("gone.squashfs")]))
    with caplog.at_level(logging.WARNING):
        assert not job.restore(recipe_id)
    assert "was removed" in caplog.text
    job.mount()
    assert not job.root.exists()


@pytest.mark.parametrize("trick", ["link", "second name"])
def test_packed_root_that_others_can_reach_is_not_kept(
    recipe_id: str, root: Path, job: Job, trick: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A script of the recipe could change it later, or have it refer to a file of the host."""
    workspace, other = Workspace(root.parent), root.parent / "other"
    package_root.pack(workspace.package_root, workspace)
    assert workspace.packed_root.exists()
    if trick == "link":
        workspace.packed_root.rename(other)
        workspace.packed_root.symlink_to(other)
    else:
        os.link(workspace.packed_root, other)
    package_root.save(recipe_id, "key", workspace)
    assert "is not a plain file" in caplog.text
    assert not job.restore("key")


def test_root_that_cannot_be_kept(recipe_id: str, root: Path, job: Job, caplog: pytest.LogCaptureFixture) -> None:
    """The build does not fail."""
    folder = settings().home / "cache" / "roots"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / recipe_id).write_text("in the way")
    with caplog.at_level(logging.WARNING):
        save(recipe_id, recipe_id, root)
    assert "is not kept" in caplog.text
    assert not job.restore(recipe_id)


def test_key_covers_everything_that_decides_the_content(tmp_path: Path) -> None:
    """Each part changes the key."""
    description, package = tmp_path / "description", tmp_path / "ca.deb"
    description.mkdir()
    (description / "config.xml").write_text("<image/>")
    package.write_bytes(b"one")
    keys = [package_root.compute_key(description, "apt", "packages", package)]
    assert package_root.compute_key(description, "apt", "packages", package) == keys[0]
    keys.append(package_root.compute_key(description, "apt", "others", package))
    keys.append(package_root.compute_key(description, "zypper", "packages", package))
    package.write_bytes(b"two")
    keys.append(package_root.compute_key(description, "apt", "packages", package))
    (description / "config.xml").write_text("<image />")
    keys.append(package_root.compute_key(description, "apt", "packages", package))
    assert len(set(keys)) == len(keys)
