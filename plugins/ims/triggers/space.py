"""Waits in the triggerer until there is room for new jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from ims.runtime.choice import runtime

POLL_SECONDS = 5.0


class SpaceTrigger(BaseTrigger):
    """Fires when jobs need no longer wait for space."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and the arguments from which another triggerer creates this trigger again."""
        return "ims.triggers.space.SpaceTrigger", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fires once, without a payload."""
        found = await sync_to_async(runtime)()
        while await sync_to_async(found.shortage)() is not None:
            await asyncio.sleep(POLL_SECONDS)
        yield TriggerEvent({})
