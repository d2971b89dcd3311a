"""The runtime of one machine: steps are processes, workspaces are folders, shells are supervised services."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from ims.cleaning import Finding
from ims.runtime.base import Runtime, ShellAddress, ShellRequest
from ims.runtime.local import shells, sweeping, workspaces
from ims.sandbox import disk
from ims.settings import settings


class LocalRuntime(Runtime):
    """Runs jobs on this machine; `ims.runtime.local.process` runs their steps."""

    def shortage(self) -> str | None:
        """Returns which disk is almost full, or None."""
        return disk.shortage(settings().disks)

    def open_workspace(self, job_id: str, size_gib: int) -> Path:
        """Create an empty folder for a job. Raises ConfigurationError if fewer than `size_gib` GiB are free."""
        return workspaces.open_workspace(job_id, size_gib)

    def close_workspace(self, job_id: str) -> None:
        """End what still runs in the folder of a job and remove the folder."""
        workspaces.close_workspace(job_id)

    def open_shell(self, request: ShellRequest) -> ShellAddress:
        """Serve a shell on a port of its own."""
        return shells.open_shell(request)

    def close_shell(self, job_id: str) -> None:
        """End the shell of a job and all its processes."""
        shells.close_shell(job_id)

    def shell_outcome(self, job_id: str) -> str | None:
        """Returns the result of the shell's step, or None while the shell is open."""
        return shells.shell_outcome(job_id)

    def finish_shell(self, job_id: str) -> None:
        """Ask the shell of a job to end."""
        shells.finish_shell(job_id)

    def shell_refusal(self, job_id: str) -> str | None:
        """Returns why the shell stays open, or None."""
        return shells.shell_refusal(job_id)

    def leftovers(self, running_jobs: Callable[[], Collection[str]], hours: int) -> list[Finding]:
        """Returns what ended jobs left on this machine, and what exceeds the limit of the caches."""
        return sweeping.leftovers(running_jobs, hours)
