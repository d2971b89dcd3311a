"""Waits in the triggerer until there is room for new jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from ims.runtime.choice import runtime

POLL_SECONDS = 5.0


class SpaceTrigger(BaseTrigger):
    """Fires when jobs need no longer wait for space, or at the time `until`, in seconds since 1970."""

    def __init__(self, until: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and the arguments from which another triggerer creates this trigger again."""
        return "ims.triggers.space.SpaceTrigger", {"until": self.until}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fires once, with the time until which the job may wait."""
        found = await sync_to_async(runtime)()
        while await sync_to_async(found.shortage)() is not None and time.time() < self.until:
            await asyncio.sleep(POLL_SECONDS)
        yield TriggerEvent({"until": self.until})
