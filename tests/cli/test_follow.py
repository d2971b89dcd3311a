"""What `--follow` shows of a job, in a pipe and in a terminal, with a service in memory."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from ims.cli import following
from ims.cli.following import JobFailedError, follow, polled, result
from ims.cli.transcript import Transcript
from ims.errors import ImsError, MissingError, UnavailableError

START = datetime(2026, 11, 1, 10, tzinfo=UTC)


def step(name: str, state: str | None, *, tries: int = 1, seconds: float = 2) -> dict[str, Any]:
    """Return a step that started at ten o'clock and has ended after some seconds if its state says so."""
    ended = START + timedelta(seconds=seconds)
    return {
        "name": name,
        "state": state,
        "try_number": tries if state else 0,
        "started": START.isoformat() if state else None,
        "ended": ended.isoformat() if state not in (None, "running", "deferred") else None,
    }


def job(*steps: dict[str, Any], status: str = "building_image") -> dict[str, Any]:
    """Return a job with these steps."""
    return {
        "id": "a-job",
        "job_type": "create",
        "artifact_id": "a-recipe",
        "created": START.isoformat(),
        "status": status,
        "steps": list(steps),
    }


@dataclass
class Logs:
    """Lines that steps have logged; a step whose log has no end yet is in `unfinished`."""

    lines: dict[str, list[str]]
    unfinished: set[str] = field(default_factory=set)

    def take(self, name: str) -> list[str]:
        """Return the lines and forget them."""
        return self.lines.pop(name, [])

    def is_complete(self, name: str) -> bool:
        """Return whether the log has ended."""
        return name not in self.unfinished


def test_each_line_stands_under_the_heading_of_its_step() -> None:
    """Of two steps that run at the same time, the second one's block begins when the first one's has ended."""
    logs = Logs({"a": ["a1"], "b": ["b1"]})
    transcript = Transcript(logs, whole_log=True)
    assert list(transcript.advance(job(step("a", "running"), step("b", "running")))) == [
        "a                        running",
        "  a1",
    ]
    logs.lines |= {"a": ["a2"], "b": ["b1", "b2"]}
    assert list(transcript.advance(job(step("a", "success"), step("b", "success", seconds=3.25)))) == [
        "  a2",
        "a                        success     2.0 s",
        "b                        running",
        "  b1",
        "  b2",
        "b                        success     3.2 s",
    ]
    assert list(transcript.advance(job(step("a", "success"), step("b", "success")))) == []


def test_a_block_stays_open_until_the_log_has_ended() -> None:
    """The log of a step can arrive after its state."""
    logs = Logs({"a": ["a1"]}, {"a"})
    transcript = Transcript(logs, whole_log=True)
    assert list(transcript.advance(job(step("a", "success"), step("b", "running")))) == [
        "a                        running",
        "  a1",
    ]
    logs.lines["a"] = ["a2"]
    logs.unfinished.clear()
    assert list(transcript.advance(job(step("a", "success"), step("b", "running")))) == [
        "  a2",
        "a                        success     2.0 s",
        "b                        running",
    ]


def test_the_open_block_comes_before_an_earlier_step_that_begins_later() -> None:
    """Steps are listed in the order of the workflow, which need not be the order in which they run."""
    transcript = Transcript(Logs({}), whole_log=True)
    list(transcript.advance(job(step("a", None), step("b", "running"))))
    assert list(transcript.advance(job(step("a", "running"), step("b", "running")))) == []
    assert list(transcript.advance(job(step("a", "running"), step("b", "failed")))) == [
        "b                        failed      2.0 s",
        "a                        running",
    ]


def test_a_step_that_skips_itself_has_a_block() -> None:
    """Its log says why it was skipped."""
    transcript = Transcript(Logs({"a": ["nothing to do"]}), whole_log=True)
    assert list(transcript.advance(job(step("a", "skipped"), step("b", "running")))) == [
        "a                        running",
        "  nothing to do",
        "a                        skipped     2.0 s",
        "b                        running",
    ]


@pytest.mark.parametrize("state", ["skipped", "upstream_failed", "removed"])
def test_a_step_that_never_ran_is_not_shown(state: str) -> None:
    """The steps of the other branch of a workflow are no news."""
    transcript = Transcript(Logs({}), whole_log=True)
    assert list(transcript.advance(job(step("a", state, tries=0), step("b", "deferred")))) == [
        "b                        running"
    ]


def test_without_the_log_the_states_remain() -> None:
    """The log is read for the line of progress only."""
    transcript = Transcript(Logs({"a": ["a1"]}), whole_log=False)
    assert [line.split()[1] for line in transcript.advance(job(step("a", "success")))] == ["running", "success"]


@dataclass
class Client:
    """A service whose job goes through these states, and whose steps have logged these lines."""

    states: list[dict[str, Any] | ImsError]
    log: dict[str, list[str | ImsError]] = field(default_factory=dict)

    def get(self, path: str) -> dict[str, Any]:
        """Return the next state; the last one forever. There are no other records."""
        if path != "jobs/a-job":
            raise MissingError(path)
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, ImsError):
            raise state
        return state

    def lines(self, path: str, *, follow: bool) -> Iterator[str]:
        """Yield the log of a step; an error is raised once, and the log starts anew after it."""
        assert follow
        log = self.log.get(path.removeprefix("jobs/a-job/logs/"), [])
        for number, line in enumerate(log):
            if isinstance(line, ImsError):
                del log[number]
                raise line
            yield line


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The states of the job follow each other at once."""
    monkeypatch.setattr("ims.cli.following.time.sleep", lambda _seconds: None)


def shown(client: Client, *, terminal: bool = False, whole_log: bool = True) -> str:
    """Follow the job; returns what a terminal or a pipe gets."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, legacy_windows=False)
    follow(client, "a-job", console, whole_log=whole_log)  # type: ignore[arg-type]
    return text.getvalue()


ENDED = job(step("fetch_recipe", "success"), step("build_image", "success"), status="success")


def test_a_pipe_gets_a_line_for_each_step_and_the_log() -> None:
    """Without time stamps, marks and characters that steer a terminal."""
    lines: list[str | ImsError] = [
        "2026-11-01T10:00:00Z INFO ::group::Pre task",
        "2026-11-01T10:00:00Z INFO [ DEBUG    ]: 10:00:00 | Installing bash",
        "2026-11-01T10:00:00Z WARNING no \x1b[31mspace\x1b[0m\x07",
        "plain",
        "::endgroup::",
    ]
    client = Client([job(step("fetch_recipe", "running"), step("build_image", None)), ENDED], {"build_image": lines})
    assert shown(client).splitlines() == [
        "fetch_recipe             running",
        "fetch_recipe             success     2.0 s",
        "build_image              running",
        "  Installing bash",
        "  WARNING no space\\x07",
        "  plain",
        "build_image              success     2.0 s",
    ]


def test_a_log_that_breaks_off_continues_where_it_was() -> None:
    """Each line is shown once."""
    lines: list[str | ImsError] = ["one", "two", UnavailableError("restart"), "three"]
    text = shown(Client([ENDED], {"build_image": lines}))
    assert re.findall(r"^  (\w+)$", text, re.MULTILINE) == ["one", "two", "three"]


def test_a_log_that_cannot_be_read_does_not_stop_following() -> None:
    """The states of the steps are still shown."""
    text = shown(Client([ENDED], {"build_image": [MissingError("no log")]}))
    assert text.splitlines()[-1].startswith("build_image              success")


def test_a_terminal_gets_little_more_than_the_log() -> None:
    """One line of progress is drawn anew once a state, not with every line of the log."""
    log: list[str | ImsError] = [f"line {number} {'x' * 100}" for number in range(3000)]
    states: list[dict[str, Any] | ImsError] = [
        job(step("fetch_recipe", "success"), step("build_image", "running")) for _ in range(100)
    ]
    client = Client([*states, ENDED], {"build_image": log})
    text = shown(client, terminal=True)
    size = sum(len(str(line)) for line in log)
    assert len(text) < 1.2 * size + 100 * 200
    assert "step 2 of 2: build_image" in text
    assert re.findall(r"^  line (\d+) ", text.replace("\r", "\n").replace("\x1b[2K", ""), re.MULTILINE) == [
        str(number) for number in range(3000)
    ]


def test_without_the_log_a_pipe_gets_its_last_line_now_and_then() -> None:
    """So that a user sees that the job goes on."""
    states: list[dict[str, Any] | ImsError] = [job(step("build_image", "running")) for _ in range(25)]
    client = Client([*states, ENDED], {"build_image": ["first", "last"]})
    text = shown(client, whole_log=False)
    assert "first" not in text
    assert len(re.findall(r"^  last$", text, re.MULTILINE)) == 2


@pytest.mark.parametrize("terminal", [True, False])
def test_the_user_is_called_once(terminal: bool) -> None:
    """When the job waits for its user."""
    waiting = job(step("wait_for_completion", "deferred"), status="waiting_on_user")
    text = shown(Client([waiting, waiting, ENDED]), terminal=terminal)
    assert text.count("the job waits for you: ims jobs shell a-job") == 1


def test_an_outage_is_survived() -> None:
    """The service may restart while a job runs."""
    client: Any = Client([UnavailableError("restart"), job(step("a", "running")), UnavailableError("restart"), ENDED])
    assert [state["status"] for state in polled(client, "a-job")] == ["building_image", "success"]


def test_a_long_outage_ends_following(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the error of the last request."""
    monkeypatch.setattr(following, "OUTAGE_SECONDS", -1)
    client: Any = Client([UnavailableError("gone")])
    with pytest.raises(UnavailableError, match="gone"):
        list(polled(client, "a-job"))


def test_a_job_is_followed_until_its_cleanup_has_ended() -> None:
    """The status says `success` before the last step has ended."""
    cleaning = job(step("close_workspace", "running"), status="success")
    client: Any = Client([cleaning, cleaning, job(step("close_workspace", "success"), status="success")])
    assert len(list(polled(client, "a-job"))) == 3


def test_result() -> None:
    """The id of the image, or the reason of the failure and where the log is."""
    assert result({"status": "success", "resultant_image_id": "an-image"}) == "an-image"
    with pytest.raises(JobFailedError, match=r"the job failed: build_image: no space\. Read its log: http://log"):
        result({"status": "error", "reason": "build_image: no space", "log_url": "http://log"})
