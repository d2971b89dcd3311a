"""The logs of a job's steps, read in the background while the steps run."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from itertools import islice
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ims.cli.output import clean
from ims.errors import ImsError, UnavailableError

if TYPE_CHECKING:
    from ims.client import ImsClient

_STAMP = re.compile(r"(\d{4}-\d\d-\d\d\S+ )?(INFO )?(\[ \w+\s*\]: [\d:]+ \|\s?)?")
"""What Airflow and kiwi write at the start of a line."""
_MARKS = ("::group::", "::endgroup::")
"""Marks for the pages of Airflow's UI."""


class StepLogs:
    """Collects the lines of all steps that have begun, without time stamps."""

    def __init__(self, client: ImsClient, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._readers: dict[str, Thread] = {}
        self._lines: defaultdict[str, list[str]] = defaultdict(list)
        self._taken: defaultdict[str, int] = defaultdict(int)
        self._finished = False
        self.last = ""

    def watch(self, job: dict[str, Any]) -> None:
        """Start a reader for each step that has begun since the last call."""
        for step in job["steps"]:
            name = step["name"]
            if step["try_number"] and name not in self._readers:
                self._readers[name] = Thread(target=self._read, args=(name,), daemon=True)
                self._readers[name].start()

    def take(self, step: str) -> list[str]:
        """Return the lines of a step that were not taken yet."""
        lines = self._lines[step][self._taken[step] :]
        self._taken[step] += len(lines)
        return lines

    def is_complete(self, step: str) -> bool:
        """Return whether the log of a step has no more lines than were read."""
        reader = self._readers.get(step)
        return self._finished or reader is None or not reader.is_alive()

    def finish(self, seconds: float) -> None:
        """Wait for the rest of all logs, but at most for some seconds. Later lines are lost."""
        deadline = time.monotonic() + seconds
        for reader in self._readers.values():
            reader.join(max(0, deadline - time.monotonic()))
        self._finished = True

    def _read(self, step: str) -> None:
        address, count = f"jobs/{self._job_id}/logs/{quote(step, safe='')}", 0
        while True:
            try:
                for line in islice(self._client.lines(address, follow=True), count, None):
                    count += 1
                    self._add(step, line)
            except UnavailableError:
                time.sleep(1)  # Continues after the last line that was read.
            except ImsError:
                return  # The states of the steps are shown even if a log cannot be read.
            else:
                return

    def _add(self, step: str, line: str) -> None:
        text = clean(_STAMP.sub("", line, count=1))
        if not text.startswith(_MARKS):
            self._lines[step].append(text)
            self.last = text
