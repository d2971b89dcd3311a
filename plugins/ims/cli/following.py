"""Following a job: its steps, their times and what they say, until it ended."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ims.cli.output import clean
from ims.errors import ImsError, UnavailableError

if TYPE_CHECKING:
    from ims.client import ImsClient

ENDED = ("success", "error")
PATIENCE = 60
"""Seconds for which a service that does not answer is asked again."""
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d\S+ )?(INFO )?(\[ \w+\s*\]: [\d:]+ \|\s?)?")
"""What Airflow and kiwi put before a line."""
_OVER = ("success", "failed", "skipped", "upstream_failed", "removed")
_SHOWN = ("running", "success", "failed")


class JobFailedError(ImsError):
    """A job ended in error."""


def follow(client: ImsClient, job_id: str, console: Console, *, whole_log: bool) -> dict[str, Any]:
    """Show a job's steps until it and its clean-up ended; returns the job.

    Their log is shown whole, or only its last line now and then. Raises UnavailableError: the service is gone for long.
    """
    log = Log(client, job_id, console if whole_log else None)
    jobs = _with_call(polled(client, job_id), console)
    return _on_terminal(jobs, console, log) if console.is_terminal else _in_lines(jobs, console, log, whole_log)


def result(job: dict[str, Any]) -> str:
    """The id of the image that an ended job made. Raises JobFailedError: it made none."""
    if job["status"] != "success":
        raise JobFailedError(f"the job failed: {job['reason']}", f"Its log: {job['log_url']}")
    return str(job["resultant_image_id"])


def polled(client: ImsClient, job_id: str, pause: float = 1) -> Iterator[dict[str, Any]]:
    """A job's states, the last when it ended. An outage of the service is sat out for PATIENCE seconds."""
    answered = time.monotonic()
    while True:
        try:
            job: dict[str, Any] = client.get(f"jobs/{job_id}")
        except UnavailableError:
            if time.monotonic() - answered > PATIENCE:
                raise
            time.sleep(pause)
            continue
        answered = time.monotonic()
        yield job
        if has_ended(job):
            return
        time.sleep(pause)


def has_ended(job: dict[str, Any]) -> bool:
    """Whether a job and its clean-up have ended."""
    return job["status"] in ENDED and all(step["state"] in _OVER for step in job["steps"])


class Log:
    """What the running steps of a job say, read as it comes and shown on a console if there is one."""

    def __init__(self, client: ImsClient, job_id: str, console: Console | None) -> None:
        self._client = client
        self._job_id = job_id
        self._console = console
        self._readers: dict[str, Thread] = {}
        self.last = ""

    def watch(self, job: dict[str, Any]) -> None:
        """Begin to read the log of every step that has begun since."""
        for step in job["steps"]:
            name = step["name"]
            if step["try_number"] and name not in self._readers:
                self._readers[name] = Thread(target=self._read, args=(name,), daemon=True)
                self._readers[name].start()

    def finish(self) -> None:
        """Wait for the rest of what is said, but not for ever."""
        deadline = time.monotonic() + 10
        for reader in self._readers.values():
            reader.join(max(0, deadline - time.monotonic()))

    def _read(self, step: str) -> None:
        address, count = f"jobs/{self._job_id}/logs/{quote(step, safe='')}", 0
        while True:
            try:
                for line in islice(self._client.lines(address, follow=True), count, None):
                    count += 1
                    self._show(line)
            except UnavailableError:
                time.sleep(1)  # goes on where it was when the service is there again
            except ImsError:
                return  # without a log the steps still tell
            else:
                return

    def _show(self, line: str) -> None:
        text = clean(_STAMP.sub("", line, count=1))
        if text.startswith(("::group::", "::endgroup::")):
            return  # marks for the pages of the UI
        self.last = text
        if self._console is not None:
            self._console.print(f"  {self.last}", markup=False, highlight=False, soft_wrap=True)


def _with_call(jobs: Iterable[dict[str, Any]], console: Console) -> Iterator[dict[str, Any]]:
    """The same; when a job comes to wait for its user, the user is told."""
    told = False
    for job in jobs:
        if job["status"] == "waiting_on_user" and not told:
            console.print(f"the job waits for you: ims jobs shell {job['id']}", highlight=False, soft_wrap=True)
            told = True
        yield job


def _on_terminal(jobs: Iterable[dict[str, Any]], console: Console, log: Log) -> dict[str, Any]:
    job: dict[str, Any] = {}
    with Live(console=console, refresh_per_second=4) as live:
        for job in jobs:
            log.watch(job)
            live.update(_progress(job, "" if has_ended(job) else log.last[:100]))
        log.finish()
    return job


def _in_lines(jobs: Iterable[dict[str, Any]], console: Console, log: Log, whole_log: bool) -> dict[str, Any]:
    """A line whenever a step starts or ends, and now and then what the running one says."""
    job: dict[str, Any] = {}
    shown: set[tuple[str, str]] = set()
    for count, job in enumerate(jobs):
        log.watch(job)
        if has_ended(job):
            log.finish()
        for step in job["steps"]:
            name, state = step["name"], _state(step)
            if state in _SHOWN and (name, state) not in shown:
                shown.add((name, state))
                console.print(f"{name:24} {state:8} {_duration(step) if step['ended'] else ''}", highlight=False)
        if not whole_log and count % 10 == 9:
            console.print(f"  {log.last[:100]}", markup=False, soft_wrap=True)
    return job


def _progress(job: dict[str, Any], line: str) -> Table:
    """The steps of a job as a table."""
    table = Table.grid(padding=(0, 2))
    for step in job["steps"]:
        table.add_row(step["name"], _state(step), _duration(step))
    table.add_row(Text(job["status"], "bold"), "", Text(line, "dim"))
    return table


def _state(step: dict[str, Any]) -> str:
    """The state in Airflow's words; a step that waits without a process of its own runs too."""
    return "running" if step["state"] == "deferred" else step["state"] or ""


def _duration(step: dict[str, Any]) -> str:
    if not step["started"]:
        return ""
    ended = datetime.fromisoformat(step["ended"]) if step["ended"] else datetime.now().astimezone()
    return f"{(ended - datetime.fromisoformat(step['started'])).total_seconds():6.1f} s"
