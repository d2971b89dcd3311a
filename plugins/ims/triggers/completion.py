"""Waits in the triggerer until a shell is finished, given up, or its time is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from ims.client import ImsClient
from ims.connections import api_client
from ims.errors import ImsError
from ims.runtime.choice import Shells, shells

MARKER_SECONDS = 1.0
API_SECONDS = 3.0


class CompletionTrigger(BaseTrigger):
    """Looks for the marker of a shell's user, and asks our API what was asked of it.

    The event's payload is {outcome}: `complete`, `fail` or `expired`.
    """

    def __init__(self, job_id: str, jail: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.jail = jail
        self._client: ImsClient | None = None
        self._shells: Shells | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How Airflow makes this trigger again elsewhere."""
        return (
            "ims.triggers.completion.CompletionTrigger",
            {"job_id": self.job_id, "jail": self.jail},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fires once."""
        asked = 0.0
        while True:
            outcome = await sync_to_async(self._marked)()
            if outcome is None and time.monotonic() - asked > API_SECONDS:
                outcome = await sync_to_async(self._asked)()
                asked = time.monotonic()
            if outcome is not None:
                yield TriggerEvent({"outcome": outcome})
                return
            await asyncio.sleep(MARKER_SECONDS)

    def _marked(self) -> str | None:
        """What the marker of the shell's user says; nothing while the runtime does not answer."""
        try:
            self._shells = self._shells or shells()
            return self._shells.outcome(self.job_id, self.jail)
        except ImsError as error:
            self.log.warning("%s", error)
            return None

    def _asked(self) -> str | None:
        """What our API says; nothing while it does not answer."""
        try:
            self._client = self._client or api_client()  # a login costs more than the question
            shell = self._client.get(f"jobs/{self.job_id}/shell")
        except ImsError as error:
            self.log.warning("%s", error)
            self._client = None
            return None
        if shell["operation"] is not None:
            return str(shell["operation"])
        return "expired" if datetime.fromisoformat(shell["until"]) < datetime.now(UTC) else None
