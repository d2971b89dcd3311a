"""Shells of jobs on this machine: each is a service that listens on a port of its own."""

from __future__ import annotations

import json
import time

from ims.errors import ImsError, MissingError, UnavailableError
from ims.jobs import shell_port
from ims.logs import parse_line
from ims.runtime.base import SHELL_STEP, ShellAddress, ShellRequest
from ims.runtime.local import services
from ims.runtime.local.workspaces import workspace_of
from ims.settings import settings
from ims.shell import sshd
from ims.shell.markers import COMPLETE, REFUSAL
from ims.steps.step import load_step
from ims.workspace import Workspace

START_SECONDS = 60


def open_shell(request: ShellRequest) -> ShellAddress:
    """Serve a shell; returns its address when it takes connections.

    Raises MissingError if there is no image root to show, ImsError if the shell does not open.
    """
    workspace = Workspace(request.workspace)
    if request.rootfs is None and not workspace.image_root.is_dir():
        raise MissingError("there is no image root to look at")
    port = _port(workspace)
    if workspace.shell_address.exists():
        # An earlier try opened it, but was interrupted before it could report the address. A running service does not
        # announce itself again, so it is replaced.
        services.stop(SHELL_STEP, request.job_id)
    for left in (workspace.shell_address, workspace.result(SHELL_STEP)):
        left.unlink(missing_ok=True)
    services.start(load_step(SHELL_STEP), request.step_input(settings().host, port))
    return _await_address(workspace)


def close_shell(job_id: str) -> None:
    """End the shell of a job and all its processes, if there are any."""
    services.stop(SHELL_STEP, job_id)


def shell_outcome(job_id: str) -> str | None:
    """Returns the result of the step, or None if it runs or was never started."""
    outcome = services.outcome(SHELL_STEP, workspace_of(job_id))
    return None if outcome is None else outcome.get("result")


def finish_shell(job_id: str) -> None:
    """Ask the step to end. Raises UnavailableError if it cannot be asked."""
    workspace = workspace_of(job_id)
    try:
        (workspace.shell_requests / REFUSAL).unlink(missing_ok=True)
        (workspace.shell_requests / COMPLETE).touch()
    except OSError as error:
        raise UnavailableError(f"the shell of the job {job_id} cannot be asked to end: {error}") from None


def shell_refusal(job_id: str) -> str | None:
    """Returns why the shell stays open although it was asked to end, or None if it has not refused."""
    try:
        return (workspace_of(job_id).shell_requests / REFUSAL).read_text()
    except FileNotFoundError:
        return None


def _await_address(workspace: Workspace) -> ShellAddress:
    """Wait until the step announces its shell. Raises ImsError if the step fails, or is silent for START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            return ShellAddress.model_validate_json(workspace.shell_address.read_text())
        except FileNotFoundError:
            time.sleep(0.1)
        outcome = services.outcome(SHELL_STEP, workspace)
        if outcome is not None and "error" in outcome:
            raise ImsError(f"the shell did not open: {outcome['error']}", outcome["hint"])
    log = services.log_file(SHELL_STEP, workspace.job_id)
    last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
    raise ImsError(f"the shell did not open in {START_SECONDS} s: {parse_line(''.join(last))[1] or 'its log is empty'}")


def _port(workspace: Workspace) -> int:
    """The port of the shell that an earlier try opened, or else the one that the API has announced.

    If another program uses that, returns the next free one. Raises UnavailableError if there is none.
    """
    try:
        return int(json.loads(workspace.shell_address.read_text())["port"])
    except (FileNotFoundError, ValueError, KeyError):
        return _free_port(workspace)


def _free_port(workspace: Workspace) -> int:
    own = settings()
    ports = own.shell_port_range
    first = ports.index(shell_port(workspace.job_id, ports))
    for offset in range(len(ports)):
        port = ports[(first + offset) % len(ports)]
        if sshd.is_free(own.host, port):
            return port
    raise UnavailableError(f"none of the ports {own.shell_ports} is free for the shell", "Set IMS_SHELL_PORTS to more")
