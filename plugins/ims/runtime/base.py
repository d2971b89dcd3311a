"""The seam between workflows and the place where steps run: one protocol, implemented as a whole by every runtime."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from ims.cleaning import Finding

SHELL_STEP = "serve_shell"
"""The step that serves the shell of a job."""


class ShellRequest(BaseModel):
    """A shell that a job asks for; the fields are those of the step `serve_shell`.

    `arch` is the architecture of the image, or None if it is not known. `boot` are the files that the image must have
    in /boot when the shell is finished.
    """

    model_config = ConfigDict(frozen=True)

    workspace: Path
    rootfs: Path | None
    public_key: str
    jail: bool
    name: str
    arch: str | None
    network: Literal["open", "repositories", "none"] = "open"
    boot: tuple[str, ...] = ()

    @property
    def job_id(self) -> str:
        """The id of the job that the workspace belongs to."""
        return self.workspace.name

    def step_input(self, host: str, port: int) -> dict[str, Any]:
        """Returns the input of the step `serve_shell` that listens on this address."""
        return {**self.model_dump(mode="json", exclude={"arch"}), "host": host, "port": port}


class ShellAddress(BaseModel):
    """How to reach a shell: the address, the fingerprint of its host key, and the command that logs in."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int
    fingerprint: str
    command: str


class Runtime(Protocol):
    """Runs the steps of jobs, and owns the workspaces and shells of these jobs.

    It knows a job by the id of its workspace (`ims.jobs.workspace_id`): the ids of two jobs may be the same.

    Steps are not run by a method: a process of this machine and a pod need different Airflow operators, so
    `ims.runtime.choice` names the operator beside the runtime.
    """

    @abstractmethod
    def shortage(self) -> str | None:
        """Returns why new jobs must wait, for example for space on a disk, or None."""

    @abstractmethod
    def open_workspace(self, job_id: str, size_gib: int) -> Path:
        """Create an empty workspace; returns the path at which the steps of the job see it.

        Raises ImsError if there is less space than `size_gib`.
        """

    @abstractmethod
    def close_workspace(self, job_id: str) -> None:
        """End every step that still runs in the workspace of a job and remove the workspace, if there is one."""

    @abstractmethod
    def open_shell(self, request: ShellRequest) -> ShellAddress:
        """Serve a shell until its user ends it or `close_shell` is called. If it is open already, it stays open.

        Raises MissingError if the job has no image root to show, ImsError if the shell does not open.
        """

    @abstractmethod
    def close_shell(self, job_id: str) -> None:
        """End the shell of a job and all its processes, if there are any."""

    @abstractmethod
    def shell_outcome(self, job_id: str) -> str | None:
        """Returns the result of the step `serve_shell`, or None while the shell is open."""

    @abstractmethod
    def finish_shell(self, job_id: str) -> None:
        """Ask the shell of a job to end as if its user had created the marker `complete`; it answers within seconds.

        Then either `shell_outcome` or `shell_refusal` has the answer. Raises ImsError if the shell cannot be asked.
        """

    @abstractmethod
    def shell_refusal(self, job_id: str) -> str | None:
        """Returns why the shell stays open although `finish_shell` was called; None if it has not refused.

        Raises ImsError if the shell cannot be asked.
        """

    @abstractmethod
    def leftovers(self, running_jobs: Callable[[], Collection[str]], hours: int) -> list[Finding]:
        """Returns what ended jobs left behind, and the parts of caches that exceed their limit.

        Ignores whatever is younger than `hours`. Calls `running_jobs` for the workspaces of runs that have not ended,
        and does so last: a job that starts during the search is not mistaken for one that has ended.
        """
