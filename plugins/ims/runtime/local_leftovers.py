"""What ended jobs left on this machine: shells, workspaces, half-fetched images; and caches that are too large."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from ims.cleaning import Finding
from ims.runtime import caches, services
from ims.runtime.local import LocalRuntime
from ims.runtime.local_shells import STEP
from ims.settings import settings
from ims.steps import cache


def find(running: Callable[[], Collection[str]], hours: int) -> list[Finding]:
    """What can go; see `ims.runtime.choice`."""
    shells = services.started(STEP)
    folders = {path: _changed(path) for path in settings().workspaces.glob("*/")}
    fetched = {path: _changed(path) for path in cache.folder(cache.IMAGES).glob("*.fetched")}
    jobs, until = set(running()), time.time() - hours * 3600
    return [
        *(Finding("shells", job, 0, partial(_stop, job)) for job in shells if job not in jobs),
        *(
            Finding("workspaces", path.name, caches.size_of(path), partial(_close, path.name))
            for path, changed in folders.items()
            if path.name not in jobs and changed < until
        ),
        *(
            Finding("caches", path.name, caches.size_of(path), partial(_unlink, path))
            for path, changed in fetched.items()
            if path.stem not in jobs and changed < until
        ),
        *caches.too_much(settings().cache_gib * 1024**3),
    ]


def _changed(path: Path) -> float:
    """When a job was last seen at work there."""
    return max(found.stat().st_mtime for found in (path, path / "run") if found.exists())


def _stop(job_id: str) -> bool:
    services.stop(STEP, job_id)
    return True


def _close(job_id: str) -> bool:
    LocalRuntime().close_workspace(job_id)
    return True


def _unlink(path: Path) -> bool:
    path.unlink(missing_ok=True)
    return True
