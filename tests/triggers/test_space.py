"""The wait for space, as the triggerer runs it."""

from __future__ import annotations

import asyncio
import time

import pytest
from airflow.triggers.base import TriggerEvent

from ims.triggers import space
from ims.triggers.space import SpaceTrigger
from tests.operators.fakes import FakeRuntime


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    """A machine whose disk is full for the first three times that somebody looks."""
    found = FakeRuntime()
    found.shortages = ["the disk is full"] * 3
    monkeypatch.setattr(space, "runtime", lambda: found)
    monkeypatch.setattr(space, "POLL_SECONDS", 0)
    return found


def payload(until: float) -> object:
    """What the trigger fires with, after another triggerer created it again."""
    name, arguments = SpaceTrigger(until).serialize()
    assert name == f"{SpaceTrigger.__module__}.{SpaceTrigger.__qualname__}"

    async def first() -> TriggerEvent:
        return await anext(SpaceTrigger(**arguments).run())

    return asyncio.run(first()).payload


def test_there_is_space_again(runtime: FakeRuntime) -> None:
    """The trigger fires when no disk is almost full any more."""
    until = time.time() + 60
    assert payload(until) == {"until": until}
    assert runtime.shortages == []


def test_time_is_over(runtime: FakeRuntime) -> None:
    """The trigger fires although the disk is full."""
    assert payload(1.0) == {"until": 1.0}
    assert len(runtime.shortages) == 2
