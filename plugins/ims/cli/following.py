"""Following a job until it and its cleanup have ended."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ims.cli.progress import earlier_job, has_ended, progress
from ims.cli.step_logs import StepLogs
from ims.cli.transcript import Transcript
from ims.errors import PermanentError, UnavailableError

if TYPE_CHECKING:
    from ims.client import ImsClient

OUTAGE_SECONDS = 60
"""Seconds without an answer from the service after which following a job fails."""
LOG_SECONDS = 10
"""Seconds to wait for the rest of the logs of an ended job."""
_POLLS_PER_LAST_LINE = 10


class JobFailedError(PermanentError):
    """A job ended in error."""


def follow(client: ImsClient, job_id: str, console: Console, *, whole_log: bool) -> dict[str, Any]:
    """Show the steps of a job until it and its cleanup have ended; returns the job.

    Shows the whole log of each step, or only the last line now and then. A terminal also shows a line of progress.
    Raises UnavailableError if the service does not answer for a long time.
    """
    logs = StepLogs(client, job_id)
    transcript = Transcript(logs, whole_log=whole_log)
    jobs = _with_notice(polled(client, job_id), console)
    if console.is_terminal:
        return _on_terminal(client, jobs, console, logs, transcript, whole_log=whole_log)
    return _in_pipe(jobs, console, logs, transcript, whole_log=whole_log)


def result(job: dict[str, Any]) -> str:
    """Return the id of the image that an ended job created. Raises JobFailedError if the job failed."""
    if job["status"] != "success":
        raise JobFailedError(f"the job failed: {job['reason']}", f"Read its log: {job['log_url']}")
    return str(job["resultant_image_id"])


def polled(client: ImsClient, job_id: str, pause: float = 1) -> Iterator[dict[str, Any]]:
    """Yield the states of a job until it has ended. Survives outages of the service of up to OUTAGE_SECONDS seconds."""
    answered = time.monotonic()
    while True:
        try:
            job: dict[str, Any] = client.get(f"jobs/{job_id}")
        except UnavailableError:
            if time.monotonic() - answered > OUTAGE_SECONDS:
                raise
            time.sleep(pause)
            continue
        answered = time.monotonic()
        yield job
        if has_ended(job):
            return
        time.sleep(pause)


def _with_notice(jobs: Iterable[dict[str, Any]], console: Console) -> Iterator[dict[str, Any]]:
    """Yield the same states, and tell the user when the job begins to wait for them."""
    notified = False
    for job in jobs:
        if job["status"] == "waiting_on_user" and not notified:
            _print(console, f"the job waits for you: ims jobs shell {job['id']}")
            notified = True
        yield job


def _on_terminal(
    client: ImsClient,
    jobs: Iterable[dict[str, Any]],
    console: Console,
    logs: StepLogs,
    transcript: Transcript,
    *,
    whole_log: bool,
) -> dict[str, Any]:
    """Print the transcript above one line of progress.

    The terminal draws that line anew with everything that is printed, so lines of the log are printed together.
    """
    job: dict[str, Any] = {}
    earlier: dict[str, Any] | None = None
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for count, job in enumerate(jobs):
            if count == 0:
                earlier = earlier_job(client, job)
            _advance(job, console, logs, transcript)
            text = progress(job, datetime.now().astimezone(), earlier)
            line = Text(text, "bold", no_wrap=True, overflow="ellipsis")
            if not whole_log:
                line.append(f"  {logs.last}", "not bold dim")
            live.update(line, refresh=True)
    return job


def _in_pipe(
    jobs: Iterable[dict[str, Any]], console: Console, logs: StepLogs, transcript: Transcript, *, whole_log: bool
) -> dict[str, Any]:
    """Print the transcript, and without the whole log now and then its last line."""
    job: dict[str, Any] = {}
    for count, job in enumerate(jobs, 1):
        _advance(job, console, logs, transcript)
        if not whole_log and count % _POLLS_PER_LAST_LINE == 0:
            _print(console, f"  {logs.last[:100]}")
    return job


def _advance(job: dict[str, Any], console: Console, logs: StepLogs, transcript: Transcript) -> None:
    """Print the part of the transcript that is new in this state of the job."""
    logs.watch(job)
    if has_ended(job):
        logs.finish(LOG_SECONDS)
    if lines := list(transcript.advance(job)):
        _print(console, "\n".join(lines))


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
