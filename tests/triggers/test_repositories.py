"""What the triggerer does while a job waits for repositories."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ims.errors import UnavailableError
from ims.triggers import repositories
from ims.triggers.repositories import RepositoriesTrigger

URL = "https://mirror.test/os"
REPOSITORIES = [{"url": URL, "metadata_url": f"{URL}/repodata/repomd.xml"}]


def fire(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> tuple[Any, dict[str, Any]]:
    """The payload of the event, and the arguments of the wait."""
    waits: dict[str, Any] = {}

    async def wait_for_all(found: Any, certificate: Any, **limits: Any) -> None:
        waits.update(limits, names=[repository.name for repository in found], certificate=str(certificate))
        if error is not None:
            raise error

    async def first() -> Any:
        trigger = RepositoriesTrigger(REPOSITORIES, "/ca.pem", until=12.0, interval=5.0)
        kind, arguments = trigger.serialize()
        assert kind == "ims.triggers.repositories.RepositoriesTrigger"
        return await anext(RepositoriesTrigger(**arguments).run())

    monkeypatch.setattr(repositories, "wait_for_all", wait_for_all)
    return asyncio.run(first()).payload, waits


def test_all_become_available(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event is empty. A restarted triggerer waits until the same moment."""
    payload, waits = fire(monkeypatch, None)
    assert payload == {}
    assert waits == {"until": 12.0, "interval": 5.0, "names": [URL], "certificate": "/ca.pem"}


def test_one_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event carries the reason to the task."""
    payload, _ = fire(monkeypatch, UnavailableError("os is not available", "Check the server"))
    assert payload == {"error": "os is not available", "hint": "Check the server", "exit_code": 69}
