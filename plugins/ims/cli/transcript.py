"""What a job did, as text: a block for each step, with its log between its start and its end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Protocol

from ims.cli.progress import is_over, is_running


class Logs(Protocol):
    """The lines that steps have logged."""

    def take(self, step: str) -> list[str]:
        """Return the lines of a step that were not taken yet."""

    def is_complete(self, step: str) -> bool:
        """Return whether the log of a step has no more lines than were read."""


class Transcript:
    """Turns the states of a job into lines.

    Steps can run at the same time. The block of one step is finished before that of the next one begins, so that each
    line stands under the heading of its own step.
    """

    def __init__(self, logs: Logs, *, whole_log: bool) -> None:
        self._logs = logs
        self._whole_log = whole_log
        self._open = ""
        self._closed: set[str] = set()

    def advance(self, job: dict[str, Any]) -> Iterator[str]:
        """Yield the lines that are new in this state of the job."""
        steps = {step["name"]: step for step in job["steps"]}
        while (step := steps.get(self._open or self._next(steps))) is not None:
            yield from self._block(step)
            if self._open:
                return

    def _next(self, steps: dict[str, dict[str, Any]]) -> str:
        """Return the name of the first step that has begun and has no block yet, or an empty string."""
        return next((name for name, step in steps.items() if _has_run(step) and name not in self._closed), "")

    def _block(self, step: dict[str, Any]) -> Iterator[str]:
        """Yield the lines that are new in the block of a step. Opens the block, and closes it if the step is over."""
        name = step["name"]
        if not self._open:
            self._open = name
            yield _line(name, "running")
        complete = is_over(step) and self._logs.is_complete(name)
        lines = self._logs.take(name)
        if self._whole_log:
            yield from (f"  {line}" for line in lines)
        if complete:
            self._open = ""
            self._closed.add(name)
            yield _line(name, step["state"], _duration(step))


def _has_run(step: dict[str, Any]) -> bool:
    """Return whether a step runs or has run. A step can be skipped before it runs, or by itself."""
    return is_running(step) or step["state"] in ("success", "failed") or (is_over(step) and step["try_number"] > 0)


def _line(name: str, state: str, duration: str = "") -> str:
    return f"{name:24} {state:8} {duration}".rstrip()


def _duration(step: dict[str, Any]) -> str:
    if not (step["started"] and step["ended"]):
        return ""
    seconds = datetime.fromisoformat(step["ended"]) - datetime.fromisoformat(step["started"])
    return f"{seconds.total_seconds():6.1f} s"
