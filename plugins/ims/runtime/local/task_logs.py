"""The logs of tasks on this machine, which are kept for a set time."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

from ims.cleaning import Finding
from ims.jobs import workspace_id
from ims.removal import remove
from ims.runtime.local import caches
from ims.settings import settings


def expired(running_jobs: Collection[str]) -> Iterator[Finding]:
    """Yields the logs of each run that ended, and those of the DAG processor of each day, that are older than allowed.

    `running_jobs` are the workspaces of the runs that have not ended.
    """
    days, folder = settings().log_days, settings().home / "logs" / "tasks"
    if not days:
        return
    until = time.time() - days * 86400
    for path in (*folder.glob("dag_id=*/run_id=*/"), *folder.glob("dag_processor/*/")):
        if _workspace(path) not in running_jobs and _last_written(path) < until:
            yield Finding("logs", str(path.relative_to(folder)), caches.size_of(path), partial(_remove, path))


def _workspace(path: Path) -> str:
    """The id of the workspace of the run with these logs."""
    dag_id, run_id = (name.partition("=")[2] for name in (path.parent.name, path.name))
    return workspace_id(dag_id, run_id)


def _last_written(path: Path) -> float:
    return caches.last_modified(path, *path.rglob("*"))


def _remove(path: Path) -> bool:
    remove(path)
    return True
