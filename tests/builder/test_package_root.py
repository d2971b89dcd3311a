"""Roots that are kept from one build to the next."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest

from ims.builder import package_root
from ims.cache import ROOTS, claimed_by
from ims.runtime.local import caches
from ims.runtime.local.runtime import LocalRuntime
from ims.settings import settings
from ims.workspace import Workspace
from tests.images.trees import snapshot, unmount
from tests.steps.test_package_artifacts import write_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one of everything."""
    return write_root(tmp_path / "root")


@pytest.fixture
def recipe_id() -> str:
    """A recipe without any root."""
    return str(uuid4())


class Job(NamedTuple):
    """A job's workspace, and the place of its image root."""

    workspace: Workspace
    root: Path

    def restore(self, key: str) -> bool:
        """As a build does."""
        return package_root.restore(key, self.workspace)

    def mount(self) -> None:
        """As the steps after it do."""
        package_root.mount(self.workspace)

    def unmount(self) -> None:
        """As the end of a step does."""
        unmount(self.workspace.root)


@pytest.fixture
def job() -> Iterator[Job]:
    """One that is closed whatever happens."""
    workspace = Workspace(LocalRuntime().open_workspace(str(uuid4()), 0))
    made = Job(workspace, workspace.image_root)
    yield made
    made.unmount()
    LocalRuntime().close_workspace(workspace.job_id)


def kept(recipe_id: str) -> list[Path]:
    """What there is of a recipe."""
    return list((settings().home / "cache" / "roots" / recipe_id).iterdir())


def test_comes_back_whole(recipe_id: str, root: Path, job: Job) -> None:
    """With owners, times, links, attributes, devices."""
    package_root.save(recipe_id, recipe_id, root)
    assert job.restore(recipe_id)
    assert snapshot(job.root) == snapshot(root)


def test_changes_stay_with_the_job(recipe_id: str, root: Path, job: Job) -> None:
    """The next step finds them, the next build does not."""
    package_root.save(recipe_id, recipe_id, root)
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


def test_another_key_finds_nothing(recipe_id: str, root: Path, job: Job) -> None:
    """And a root of another key takes the place of the last."""
    one, two = f"{recipe_id}-1", f"{recipe_id}-2"
    assert not job.restore(one)
    package_root.save(recipe_id, one, root)
    assert not job.restore(one[:-1])
    package_root.save(recipe_id, two, root)
    assert not job.restore(one)
    assert len(kept(recipe_id)) == 1
    assert not job.root.exists()


def test_stays_as_long_as_a_job_claims_it(recipe_id: str, root: Path, job: Job) -> None:
    """Between two steps nothing holds it but that: neither a newer one nor the clean-up takes it away."""
    package_root.save(recipe_id, "one", root)
    (entry,) = [entry for entry in caches.entries() if entry.path.name == recipe_id]
    assert not caches.is_in_use(entry)
    assert job.restore("one")
    job.unmount()
    assert not caches.remove(entry)
    package_root.save(recipe_id, "two", root)
    assert len(kept(recipe_id)) == 2
    job.mount()
    assert snapshot(job.root) == snapshot(root)
    job.unmount()
    LocalRuntime().close_workspace(job.workspace.job_id)
    package_root.save(recipe_id, "three", root)
    assert len(kept(recipe_id)) == 1
    assert caches.remove(entry)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: bytes(len(data))])
def test_damaged_root_is_not_used(
    recipe_id: str, root: Path, job: Job, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes, and the log says so."""
    package_root.save(recipe_id, recipe_id, root)
    (path,) = kept(recipe_id)
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert not job.restore(recipe_id)
    assert "cannot be used" in caplog.text
    assert kept(recipe_id) == []
    assert claimed_by(ROOTS, job.workspace) is None
    assert not job.root.exists()


def test_removed_before_it_is_claimed(
    recipe_id: str, root: Path, job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The build goes on without it, and so do the steps after it."""
    package_root.save(recipe_id, recipe_id, root)
    (path,) = kept(recipe_id)
    monkeypatch.setattr(Path, "glob", lambda _folder, _pattern: iter([path.with_name("gone.squashfs")]))
    with caplog.at_level(logging.WARNING):
        assert not job.restore(recipe_id)
    assert "was removed" in caplog.text
    job.mount()
    assert not job.root.exists()


def test_machine_that_cannot_mount_it(
    recipe_id: str, root: Path, job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Packages are installed again, and the root stays for others."""
    package_root.save(recipe_id, recipe_id, root)
    (job.workspace.root / "no mount").mkdir()
    (job.workspace.root / "no mount/mount").write_text(
        "#!/bin/sh\necho 'mount: failed to set up a loop device' >&2\nexit 32\n"
    )
    (job.workspace.root / "no mount/mount").chmod(0o755)
    monkeypatch.setenv("PATH", f"{job.workspace.root / 'no mount'}:{os.environ['PATH']}")
    with caplog.at_level(logging.WARNING):
        assert not job.restore(recipe_id)
    assert "failed to set up a loop device" in caplog.text
    assert len(kept(recipe_id)) == 1
    job.mount()
    assert not job.root.exists()


def test_no_place_to_keep_it(recipe_id: str, root: Path, job: Job, caplog: pytest.LogCaptureFixture) -> None:
    """A build goes on without."""
    folder = settings().home / "cache" / "roots"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / recipe_id).write_text("in the way")
    with caplog.at_level(logging.WARNING):
        package_root.save(recipe_id, recipe_id, root)
    assert "is not kept" in caplog.text
    assert not job.restore(recipe_id)


def test_key_is_made_of_all_that_counts(tmp_path: Path) -> None:
    """Each part of it changes it."""
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
