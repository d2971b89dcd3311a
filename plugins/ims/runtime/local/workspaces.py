"""Workspaces as folders of this machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ims import cache
from ims.errors import ConfigurationError
from ims.removal import remove
from ims.runtime.local.process import end_recorded
from ims.sandbox.disk import available
from ims.settings import settings
from ims.workspace import Workspace

_GIB = 1024**3


def open_workspace(job_id: str, size_gib: int) -> Path:
    """Create an empty folder for a job. Raises ConfigurationError if jobs may use fewer than `size_gib` GiB."""
    close_workspace(job_id)
    workspace = workspace_of(job_id)
    disk = workspace.root.parent
    disk.mkdir(mode=0o700, parents=True, exist_ok=True)
    free = available(disk) / _GIB
    if free < size_gib:
        raise ConfigurationError(
            f"the job needs {size_gib} GiB of space, {disk} has {free:.1f} GiB free for jobs",
            "Free some, or set build_env_size",
        )
    workspace.root.mkdir(mode=0o700)
    workspace.run.mkdir()
    workspace.space.write_text(str(size_gib))
    return workspace.root


def close_workspace(job_id: str) -> None:
    """End what still runs in the folder of a job and remove the folder, if there is one."""
    workspace = workspace_of(job_id)
    for record in workspace.pid_files():
        end_recorded(record)
    for fetched in cache.folder(cache.IMAGES).glob(f"{job_id}.*"):
        fetched.unlink()
    # The processes that were just killed may still create files: the first try ignores errors, the second reports them.
    with suppress(OSError):
        remove(workspace.root)
    remove(workspace.root)


def workspace_of(job_id: str) -> Workspace:
    """The layout of the workspace of a job, whether it is open or not."""
    return Workspace(settings().workspaces / job_id)
