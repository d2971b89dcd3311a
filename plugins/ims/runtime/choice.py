"""Where jobs work: what both runtimes can do, and the one that the settings choose."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol

from ims.cleaning import Finding
from ims.settings import settings


class Workspaces(Protocol):
    """Makes and removes what the steps of a job share."""

    def open_workspace(self, job_id: str, size_gib: int) -> Path:
        """Make an empty workspace; returns where the job's steps see it. Raises ImsError: there is no room."""

    def close_workspace(self, job_id: str) -> None:
        """End what still runs in a job's workspace and remove it. None there is no error."""


class Shells(Protocol):
    """Opens and closes the shells of jobs."""

    def open(self, data: dict[str, Any], arch: str | None) -> dict[str, Any]:
        """Serve a shell until it is closed; returns host, port, fingerprint and the command that logs in.

        `data` is the input of the step `serve_shell`, without host and port; `arch` is the image's, if it is
        known. Open already is no error.
        Raises MissingError: there is nothing to show; ImsError: it does not open.
        """

    def close(self, job_id: str) -> None:
        """End the shell and everything that was started in it. Not open is no error."""

    def outcome(self, job_id: str, jail: bool) -> str | None:
        """What the user's marker says, `complete` or `fail`; None if there is none."""


def workspaces() -> Workspaces:
    """The workspaces of this installation."""
    if settings().runtime == "kubernetes":
        from ims.runtime.kubernetes import KubernetesWorkspaces

        return KubernetesWorkspaces()
    from ims.runtime.local import LocalRuntime

    return LocalRuntime()


def shells() -> Shells:
    """The shells of this installation."""
    if settings().runtime == "kubernetes":
        from ims.runtime.kubernetes_shells import KubernetesShells

        return KubernetesShells()
    from ims.runtime.local_shells import LocalShells

    return LocalShells()


def leftovers(running: Callable[[], Collection[str]], hours: int) -> list[Finding]:
    """What ended jobs left, and caches that have grown too large. What is younger than `hours` stays.

    `running` tells the jobs that have not ended; it is asked after all else was looked at, so a job that begins
    meanwhile is not taken for one that has ended.
    """
    if settings().runtime == "kubernetes":
        from ims.runtime.kubernetes import KubernetesWorkspaces

        return KubernetesWorkspaces().leftovers(running, hours)
    from ims.runtime import local_leftovers

    return local_leftovers.find(running, hours)
