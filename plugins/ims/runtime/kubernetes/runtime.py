"""The runtime of a cluster: steps are pods, workspaces are volumes, shells are pods with a service each."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from ims.cleaning import Finding
from ims.runtime.base import Runtime, ShellAddress, ShellRequest
from ims.runtime.kubernetes.cluster import core_api
from ims.runtime.kubernetes.shells import Shells
from ims.runtime.kubernetes.workspaces import Workspaces


class KubernetesRuntime(Runtime):
    """Runs jobs on the cluster that the settings name; Airflow's own operator starts the pods of their steps."""

    def __init__(self) -> None:
        core = core_api()
        self._workspaces = Workspaces(core)
        self._shells = Shells(core)

    def shortage(self) -> None:
        """Jobs never wait: each has a volume of its own, and pods that the cluster has no room for wait there."""

    def open_workspace(self, job_id: str, size_gib: int) -> Path:
        """Create an empty volume for a job."""
        return self._workspaces.open(job_id, size_gib)

    def close_workspace(self, job_id: str) -> None:
        """Remove the pods, services and the volume of a job."""
        self._workspaces.close(job_id)

    def open_shell(self, request: ShellRequest) -> ShellAddress:
        """Serve a shell in a pod, behind a service of its own."""
        return self._shells.open(request)

    def close_shell(self, job_id: str) -> None:
        """End the shell of a job and all its processes."""
        self._shells.close(job_id)

    def shell_outcome(self, job_id: str) -> str | None:
        """Returns the result of the shell's step, or None while its pod runs."""
        return self._shells.outcome(job_id)

    def finish_shell(self, job_id: str) -> None:
        """Ask the shell of a job to end."""
        self._shells.finish(job_id)

    def shell_refusal(self, job_id: str) -> str | None:
        """Returns why the shell stays open, or None."""
        return self._shells.refusal(job_id)

    def leftovers(self, running_jobs: Callable[[], Collection[str]], hours: int) -> list[Finding]:
        """Returns what ended jobs left in the namespace."""
        return self._workspaces.leftovers(running_jobs, hours)
