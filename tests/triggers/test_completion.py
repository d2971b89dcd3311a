"""What the triggerer does while a shell is open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers.base import TaskSuccessEvent

from ims.errors import UnavailableError
from ims.triggers import completion
from ims.triggers.completion import ANSWER_SECONDS, CompletionTrigger

FINISHED = TaskSuccessEvent().payload
"""The task ends without another start."""


class Service:
    """The runtime and the API of a job with a shell. Either can be unavailable."""

    def __init__(self) -> None:
        self.until = datetime.now(UTC) + timedelta(hours=1)
        self.operation: str | None = None
        self.outcome: str | None = None
        self.refusal: str | None = None
        self.requested = 0
        self.on_request: Callable[[], None] = lambda: None
        self.logins = 0
        self.requests = 0
        self.is_available = True

    def login(self) -> Service:
        """A new client of the API."""
        self.logins += 1
        return self

    def get(self, _path: str) -> dict[str, Any]:
        """The shell as the API knows it."""
        self.requests += 1
        self._answer()
        return {"operation": self.operation, "until": self.until.isoformat()}

    def shell_outcome(self, workspace_id: str) -> str | None:
        """The shell as the runtime knows it."""
        assert workspace_id == "w1"
        self._answer()
        return self.outcome

    def finish_shell(self, workspace_id: str) -> None:
        """The shell is asked to end; what it does is up to the test."""
        assert workspace_id == "w1"
        self._answer()
        self.requested += 1
        self.on_request()

    def shell_refusal(self, workspace_id: str) -> str | None:
        """The answer of the shell."""
        assert (workspace_id, self.requested > 0) == ("w1", True)
        return self.refusal

    def _answer(self) -> None:
        if not self.is_available:
            raise UnavailableError("it does not answer")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    """An open shell."""
    found = Service()
    monkeypatch.setattr(completion, "api_client", found.login)
    monkeypatch.setattr(completion, "runtime", lambda: found)
    monkeypatch.setattr(completion, "RUNTIME_POLL_SECONDS", 0.001)
    monkeypatch.setattr(completion, "API_POLL_SECONDS", 0.01)
    return found


def wait(change: Any = None, after: int = 3) -> Any:
    """The payload of the event. After some waits, `change` is called."""

    async def run() -> Any:
        trigger = CompletionTrigger("j1", "w1")
        kind, arguments = trigger.serialize()
        assert kind == "ims.triggers.completion.CompletionTrigger"
        assert arguments == {"job_id": "j1", "workspace_id": "w1"}
        event = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.sleep(0.01 * after)
        assert event.done() is (change is None)
        if change is not None:
            change()
        return (await asyncio.wait_for(event, 10)).payload

    return asyncio.run(run())


@pytest.mark.parametrize(("outcome", "payload"), [("complete", FINISHED), ("fail", {"outcome": "fail"})])
def test_shell_ends(service: Service, outcome: str, payload: object) -> None:
    """The user ends it; the runtime sees that first."""
    assert wait(lambda: setattr(service, "outcome", outcome)) == payload
    assert service.requested == 0


def test_user_gives_up_through_the_api(service: Service) -> None:
    """The shell itself is still open, and is not asked."""
    service.operation = "fail"
    assert wait() == {"outcome": "fail"}
    assert service.requested == 0


def test_user_finishes_through_the_api(service: Service) -> None:
    """The shell is asked once, and ends as with the marker."""
    service.operation = "complete"
    assert wait(lambda: setattr(service, "outcome", "complete"), after=10) == FINISHED
    assert service.requested == 1


REFUSAL = "The image has no /boot/initrd"


def test_shell_refuses(service: Service) -> None:
    """It stays open, and the event says why. After that, the lease, giving up and finishing once more end it."""
    service.operation, service.on_request = "complete", lambda: setattr(service, "refusal", REFUSAL)
    assert wait() == {"refusal": REFUSAL}
    service.operation, until = None, service.until
    service.until = datetime.now(UTC) - timedelta(seconds=1)
    assert wait() == {"outcome": "expired"}
    service.operation, service.until = "fail", until
    assert wait() == {"outcome": "fail"}
    service.operation, service.refusal = "complete", None
    service.on_request = lambda: setattr(service, "outcome", "complete")
    assert wait() == FINISHED


def test_old_refusal_does_not_count(service: Service) -> None:
    """The shell refused the marker of its user before. Nobody waits for that answer."""
    service.refusal = REFUSAL
    assert wait(lambda: setattr(service, "outcome", "fail")) == {"outcome": "fail"}


@pytest.mark.parametrize("is_available", [True, False])
def test_shell_does_not_answer(service: Service, monkeypatch: pytest.MonkeyPatch, is_available: bool) -> None:
    """After a while it is finished all the same: its job does not wait for the end of the lease."""
    trigger = CompletionTrigger("j1", "w1")
    service.operation, now = "complete", time.monotonic()
    assert trigger._ask_api() is None
    monkeypatch.setattr(service, "finish_shell", lambda _: service._answer())
    monkeypatch.setattr(completion, "time", SimpleNamespace(monotonic=lambda: now + ANSWER_SECONDS + 1))
    service.is_available = is_available
    assert trigger._finish() == {"outcome": "complete"}


def test_shell_cannot_be_asked_at_once(service: Service) -> None:
    """The request is repeated: a shell that died starts again."""
    service.operation = "complete"
    trigger = CompletionTrigger("j1", "w1")
    service.is_available = False
    assert trigger._finish() is None
    service.is_available = True
    assert [trigger._finish(), trigger._finish()] == [None, None]
    assert service.requested == 1


def test_lease_has_ended(service: Service) -> None:
    """The trigger fires although nobody did anything."""
    service.until = datetime.now(UTC) - timedelta(seconds=1)
    assert wait() == {"outcome": "expired"}


def test_services_do_not_answer(service: Service) -> None:
    """The trigger waits on: shells stay open for days, and services restart."""
    service.is_available, service.outcome = False, "complete"
    assert wait(lambda: setattr(service, "is_available", True)) == FINISHED


def test_one_login_for_many_requests(service: Service) -> None:
    """The API is asked every few seconds for days. A new login follows only after a request that failed."""
    trigger = CompletionTrigger("j1", "w1")
    assert [trigger._ask_api() for _ in range(3)] == [None] * 3
    assert service.logins == 1
    service.is_available = False
    assert trigger._ask_api() is None
    service.is_available, service.until = True, datetime.now(UTC) - timedelta(seconds=1)
    assert trigger._ask_api() == {"outcome": "expired"}
    assert service.logins == 2
