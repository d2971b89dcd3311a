"""The wait for space, as the triggerer runs it."""

from __future__ import annotations

import asyncio

import pytest

from ims.triggers import space
from ims.triggers.space import SpaceTrigger
from tests.operators.fakes import FakeRuntime


def test_there_is_space_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trigger fires when no disk is almost full any more, and another triggerer can create it again."""
    runtime = FakeRuntime()
    runtime.shortages = ["the disk is full"] * 3
    monkeypatch.setattr(space, "runtime", lambda: runtime)
    monkeypatch.setattr(space, "POLL_SECONDS", 0)
    name, arguments = SpaceTrigger().serialize()
    assert (name, arguments) == (f"{SpaceTrigger.__module__}.{SpaceTrigger.__qualname__}", {})

    async def first() -> object:
        return await anext(SpaceTrigger().run())

    assert asyncio.run(first()).payload == {}  # type: ignore[attr-defined]
    assert runtime.shortages == []
