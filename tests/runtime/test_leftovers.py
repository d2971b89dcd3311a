"""Sweeping this machine: leftovers of ended jobs and the surplus of the caches, but nothing that is in use."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from ims import cache as kept
from ims.cleaning import remove_all
from ims.jobs import workspace_id
from ims.runtime.choice import runtime
from ims.runtime.local import caches
from ims.runtime.local.runtime import LocalRuntime
from ims.settings import settings
from ims.workspace import Workspace
from tests.test_removal import make_deep

DAY = 86400
MIB = 1024**2
DEPTH = 2100
"""More nested folders than Python recurses, and than a path can have."""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, configure: Callable[..., None]) -> None:
    """A home for each test: the caches of other tests do not count."""
    configure(home=tmp_path)


def cache() -> Path:
    """The folder of the caches."""
    return settings().home / "cache"


def aged(path: Path, days: float) -> Path:
    """Set the times of a file or folder to so many days ago."""
    then = time.time() - days * DAY
    for item in (path, path / "run"):
        if item.exists():
            os.utime(item, (then, then))
    return path


def workspace(days: float) -> Path:
    """A workspace that was last used so many days ago."""
    folder = LocalRuntime().open_workspace(str(uuid4()), 0)
    (folder / "rootfs").write_bytes(os.urandom(MIB))
    return aged(folder, days)


def task_log(run_id: str, days: float) -> Path:
    """The log of a task that was last written so many days ago."""
    path = settings().home / "logs" / "tasks" / "dag_id=create_image" / f"run_id={run_id}" / "task_id=x" / "1.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    for item in (path, path.parent, path.parent.parent):
        aged(item, days)
    return path


def test_old_logs(configure: Callable[..., None]) -> None:
    """Those of runs that have not ended stay, whatever their age."""
    old, new, running = (task_log(str(uuid4()), days) for days in (9, 7, 9))
    run_id = running.parents[1].name.partition("=")[2]
    configure(log_days=8)
    found = runtime().leftovers(lambda: [workspace_id("create_image", run_id)], 24)
    removed, failed = remove_all(found)
    assert [(item.kind, item.name) for item in removed] == [("logs", f"dag_id=create_image/{old.parents[1].name}")]
    assert not failed
    assert [path.exists() for path in (old, new, running)] == [False, True, True]
    configure(log_days=0)
    assert not runtime().leftovers(list, 24)


def cached(name: str, days: float) -> Path:
    """An entry of a cache, 1 MiB large, and the lock of its build, both as old."""
    path = cache() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent.name == "images":
        path.write_bytes(os.urandom(MIB))
        return aged(path, days)
    path.mkdir()
    (path / "package").write_bytes(os.urandom(MIB))
    lock = cache() / "packages" / f"{path.name}.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.touch()
    aged(lock, days)
    return aged(path, days)


@pytest.fixture
def folders() -> Iterator[list[Path]]:
    """Two old workspaces and a young one; all are closed at the end."""
    made = [workspace(days) for days in (2, 2, 0)]
    yield made
    for folder in made:
        LocalRuntime().close_workspace(folder.name)


def test_workspaces_of_ended_jobs_are_swept(folders: list[Path]) -> None:
    """So are images that they fetched in part. Workspaces of running jobs and young workspaces stay."""
    ended, running, _young = folders
    for folder in folders:
        kept.folder(kept.IMAGES).mkdir(parents=True, exist_ok=True)
        aged_file = kept.folder(kept.IMAGES) / f"{folder.name}.fetched"
        aged_file.touch()
    asked = []

    def jobs() -> set[str]:
        asked.append(workspace(2))  # a job that starts during the search
        return {running.name}

    found = [item for item in runtime().leftovers(jobs, 24) if item.kind == "workspaces"]
    assert [item.name for item in found] == [ended.name]
    assert found[0].size >= MIB
    assert ended.exists()
    assert found[0].remove()
    assert [folder.exists() for folder in folders] == [False, True, True]
    assert not (kept.folder(kept.IMAGES) / f"{ended.name}.fetched").exists()
    assert (kept.folder(kept.IMAGES) / f"{running.name}.fetched").exists()
    assert asked[0].exists()
    LocalRuntime().close_workspace(asked[0].name)


def test_deep_workspace_is_swept() -> None:
    """A recipe can make folders that are nested deeper than Python recurses and than a path can be long."""
    folder = workspace(2)
    make_deep(folder / "recipe", DEPTH)
    aged(folder, 2)
    (found,) = [item for item in runtime().leftovers(set, 24) if item.kind == "workspaces"]
    assert found.size > MIB + DEPTH * 4096
    assert found.remove()
    assert not folder.exists()


def test_deep_cache_entry_is_removed() -> None:
    """Scripts of a recipe write to its package cache."""
    make_deep(cached("packages/a", 2) / "deep", DEPTH)
    (found,) = caches.excess(0)
    assert found.remove()
    assert list(caches.entries()) == []


@pytest.mark.system
def test_workspace_that_cannot_be_removed_does_not_stop_the_sweep() -> None:
    """It is named with the reason, and the other items go."""
    mounted, other = workspace(2), workspace(2)
    (mounted / "mnt").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mounted / "mnt"], check=True)
    try:
        aged(mounted, 2)
        removed, (failed,) = remove_all(runtime().leftovers(set, 24))
        assert [item.name for item in removed] == [other.name]
        assert mounted.name in failed
        assert "a file system is mounted there" in failed
    finally:
        subprocess.run(["umount", mounted / "mnt"], check=True)
    assert (mounted / "rootfs").exists()
    assert [item.name for item in remove_all(runtime().leftovers(set, 24))[0]] == [mounted.name]


@pytest.mark.system
def test_protected_workspace_is_closed() -> None:
    """A job can make files immutable."""
    folder = workspace(0)
    subprocess.run(["chattr", "+i", folder / "rootfs", folder], check=True)
    LocalRuntime().close_workspace(folder.name)
    assert not folder.exists()


def test_partly_fetched_image_is_swept() -> None:
    """Even if the job has no workspace any more."""
    kept.folder(kept.IMAGES).mkdir(parents=True, exist_ok=True)
    left = aged(kept.folder(kept.IMAGES) / f"{uuid4()}.fetched", 2)
    left.touch()
    aged(left, 2)
    (found,) = [item for item in runtime().leftovers(set, 24) if item.name == left.name]
    assert found.remove()
    assert not left.exists()


def test_caches_are_limited(folders: list[Path]) -> None:
    """The least recently used entries go first; locked and claimed entries stay."""
    everything = ("packages/a", "roots/a", "packages/b", "images/c", "images/d", "packages/e")
    made = [cached(name, 9 - number) for number, name in enumerate(everything)]
    image = made[3]
    kept.claim(image, kept.IMAGES, Workspace(folders[2]))
    aged(image, 6)
    with (cache() / "packages" / "b.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        total = sum(entry.size for entry in caches.entries())
        assert caches.excess(total) == []
        found = caches.excess(total - 5 * MIB // 2)
        assert [item.name for item in found] == ["packages/a", "roots/a", "images/d"]
        assert all(path.exists() for path in made)
        assert all(item.remove() for item in found)
    assert [path.exists() for path in made] == [False, False, True, True, False, True]
    later = {item.name: item for item in caches.excess(0)}
    assert set(later) == {"packages/b", "packages/e"}
    with (cache() / "packages" / "b.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not later["packages/b"].remove()
    assert later["packages/b"].remove()
    LocalRuntime().close_workspace(folders[2].name)
    assert {item.name for item in caches.excess(0)} == {"packages/e", "images/c"}
    for item in caches.excess(0):
        assert item.remove()
    assert not any(path.exists() for path in made)


def test_full_disk_limits_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """While new jobs wait for space, as much is removed as the disk lacks, also of caches below their limit."""
    for number, name in enumerate(("packages/a", "roots/b", "images/c")):
        cached(name, 9 - number)
    free = shutil.disk_usage(cache())
    needed = settings().disk_watermark_mib * MIB
    full = SimpleNamespace(total=100 * needed, free=needed - 3 * MIB // 2)
    for usage, expected in ((full, ["packages/a", "roots/b"]), (SimpleNamespace(total=free.total, free=needed), [])):
        monkeypatch.setattr(shutil, "disk_usage", lambda _path, usage=usage: usage)
        assert [item.name for item in runtime().leftovers(set, 24)] == expected


def test_use_makes_an_entry_young(folders: list[Path]) -> None:
    """A claim counts as use of an image, the lock of a build as use of a package cache."""
    image, packages, root = cached("images/x", 9), cached("packages/x", 9), cached("roots/x", 9)
    assert kept.claim(image, kept.IMAGES, Workspace(folders[2]))
    (cache() / "packages" / "x.lock").open("w").close()  # a build opens its lock like this
    used = {entry.path: entry.last_used for entry in caches.entries()}
    assert min(used[path] for path in (image, packages, root)) > time.time() - DAY
    assert not kept.claim(cache() / "images" / "absent", kept.IMAGES, Workspace(folders[0]))
    LocalRuntime().close_workspace(folders[2].name)
    for item in caches.excess(0):
        item.remove()
