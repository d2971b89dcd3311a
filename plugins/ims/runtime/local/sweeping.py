"""What a clean-up removes from this machine: left-overs of ended jobs, old logs, and the surplus of the caches."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from ims import cache
from ims.cleaning import Finding
from ims.runtime.base import SHELL_STEP
from ims.runtime.local import caches, services, task_logs, workspaces
from ims.sandbox import disk
from ims.settings import settings
from ims.workspace import Workspace


def leftovers(running_jobs: Callable[[], Collection[str]], hours: int) -> list[Finding]:
    """Returns what can be swept; see `ims.runtime.base.Runtime.leftovers`."""
    shells = services.started_jobs(SHELL_STEP)
    folders = {path: _last_used(path) for path in settings().workspaces.glob("*/")}
    fetched = {path: _last_used(path) for path in cache.folder(cache.IMAGES).glob("*.fetched")}
    jobs, until = set(running_jobs()), time.time() - hours * 3600
    return [
        *(Finding("shells", job, 0, partial(_stop_shell, job)) for job in shells if job not in jobs),
        *(
            Finding("workspaces", path.name, caches.size_of(path), partial(_close_workspace, path.name))
            for path, used in folders.items()
            if path.name not in jobs and used < until
        ),
        *(
            Finding("caches", path.name, caches.size_of(path), partial(_unlink, path))
            for path, used in fetched.items()
            if path.stem not in jobs and used < until
        ),
        *task_logs.expired(jobs),
        *caches.excess(settings().cache_gib * 1024**3, disk.lacking(settings().home / "cache")),
    ]


def _last_used(path: Path) -> float:
    """When a job last worked in a workspace or on a file."""
    return caches.last_modified(path, Workspace(path).run)


def _stop_shell(job_id: str) -> bool:
    services.stop(SHELL_STEP, job_id)
    return True


def _close_workspace(job_id: str) -> bool:
    workspaces.close_workspace(job_id)
    return True


def _unlink(path: Path) -> bool:
    path.unlink(missing_ok=True)
    return True
