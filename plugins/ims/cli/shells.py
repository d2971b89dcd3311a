"""The commands of `ims jobs` that deal with the shell of a job."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ims.cli.following import polled
from ims.cli.login import connect
from ims.cli.options import JobId, given
from ims.cli.output import FormatOption, say, show_record
from ims.cli.resources import JOBS
from ims.errors import PermanentError

if TYPE_CHECKING:
    from ims.client import ImsClient

ANSWER_SECONDS = 100
"""How long to wait until a shell says whether it can be finished."""


def add_verbs(app: typer.Typer) -> None:
    """Add the commands to the group of the jobs."""
    for command in (shell, complete, fail, extend):
        app.command()(command)


def shell(
    identity: JobId,
    command: Annotated[
        list[str] | None, typer.Argument(help="Command to run instead of an interactive shell.", show_default=False)
    ] = None,
    key: Annotated[Path | None, typer.Option("-i", help="File of the private key. By default, ssh chooses.")] = None,
) -> int:
    """Wait until the shell of a job is open, then log in with ssh. The exit code is that of ssh."""
    from ims.cli import ssh

    client = connect()
    job_id = JOBS.identify(client, identity)
    job = _with_shell(client, job_id)
    code = ssh.run(job, str(client.http.base_url), key, command or ())
    if code == ssh.NOT_CONNECTED:
        say("ssh could not log in. Give the private key that belongs to the public key of the job with -i")
    if not command:
        _after_shell(client, job_id)
    return code


def complete(identity: JobId) -> None:
    """Finish the shell of a job. Its image root becomes the new image.

    If the image lacks a file in /boot that the job needs, the shell stays open, and the error names the file.
    """
    client = connect()
    _operate(client, JOBS.identify(client, identity), "complete")


def fail(identity: JobId) -> None:
    """Give up the shell of a job. The job ends in error and creates no image."""
    client = connect()
    _operate(client, JOBS.identify(client, identity), "fail")


def extend(
    identity: JobId,
    seconds: Annotated[int | None, typer.Option(help="Seconds from now. The default is one day.")] = None,
    _format: FormatOption = None,
) -> None:
    """Extend the lease of a job's shell."""
    client = connect()
    fields = given(operation="extend", seconds=seconds)
    show_record(client.create(f"jobs/{JOBS.identify(client, identity)}/shell", **fields))


def _with_shell(client: ImsClient, job_id: str) -> dict[str, Any]:
    """Wait for the shell of a job; returns the job. Raises PermanentError if the job has ended."""
    waiting = False
    for job in polled(client, job_id):
        if job["status"] == "waiting_on_user" and job["ssh_containers"]:
            return job
        if not waiting:
            say(f"job {job_id} is {job['status']}; waiting for its shell")
            waiting = True
    raise PermanentError(
        f"the job {job_id} has ended with status {job['status']}", "Start another job: ims jobs create"
    )


def _after_shell(client: ImsClient, job_id: str) -> None:
    """Ask the user how to end the shell, or print the commands that end it."""
    job = client.get(f"jobs/{job_id}")
    if job["status"] != "waiting_on_user":
        say(f"job {job_id} is {job['status']}. To follow it: ims jobs follow {job_id}")
        return
    if sys.stdin.isatty():
        answer = typer.prompt("Finish? complete, fail, or leave it open", default="leave", err=True)
        if answer in ("complete", "fail"):
            _operate(client, job_id, answer)
            return
    say(f"The shell stays open until {job['ssh_containers'][0]['until']}.")
    say(f"To finish it: ims jobs complete {job_id}. To give it up: ims jobs fail {job_id}")


def _operate(client: ImsClient, job_id: str, operation: str) -> None:
    """Finish or give up a shell. Raises PermanentError if it stays open."""
    client.create(f"jobs/{job_id}/shell", operation=operation)
    if operation == "complete" and _stays_open(client, job_id):
        # The reason is there as soon as the job waits again.
        job = next(job for job in polled(client, job_id) if job["reason"] or job["status"] in ("success", "error"))
        if job["reason"]:
            raise PermanentError(job["reason"], f"The shell is open: ims jobs shell {job_id}")
    say(f"To follow the job: ims jobs follow {job_id}")


def _stays_open(client: ImsClient, job_id: str) -> bool:
    """Wait until a shell that was finished closes. Returns whether it refused to; False if it does not answer soon."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        found = client.get(f"jobs/{job_id}/shell")
        if found["operation"] is None or found["closed"] is not None:
            return found["closed"] is None
        time.sleep(1)
    return False
