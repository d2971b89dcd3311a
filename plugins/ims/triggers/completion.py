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
from ims.runtime.base import Runtime
from ims.runtime.choice import runtime

OUTCOME_SECONDS = 1.0
API_SECONDS = 3.0


class CompletionTrigger(BaseTrigger):
    """Waits until the shell has ended, a user finishes it through our API, or its lease expires.

    The event's payload is {outcome}: `complete`, `fail` or `expired`.
    """

    def __init__(self, job_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self._client: ImsClient | None = None
        self._runtime: Runtime | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How Airflow makes this trigger again elsewhere."""
        return "ims.triggers.completion.CompletionTrigger", {"job_id": self.job_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fires once."""
        asked = 0.0
        while True:
            outcome = await sync_to_async(self._outcome)()
            if outcome is None and time.monotonic() - asked > API_SECONDS:
                outcome = await sync_to_async(self._asked)()
                asked = time.monotonic()
            if outcome is not None:
                yield TriggerEvent({"outcome": outcome})
                return
            await asyncio.sleep(OUTCOME_SECONDS)

    def _outcome(self) -> str | None:
        """Returns the result of the shell, or None if it is open or the runtime does not answer."""
        try:
            self._runtime = self._runtime or runtime()
            return self._runtime.shell_outcome(self.job_id)
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
