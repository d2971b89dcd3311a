"""Waits in the triggerer until a shell is finished or given up, or its lease ends."""

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

RUNTIME_POLL_SECONDS = 1.0
API_POLL_SECONDS = 3.0


class CompletionTrigger(BaseTrigger):
    """Asks the runtime whether the shell has ended, and the API whether a user finished it or its lease has ended.

    The payload of the event is {outcome}: `complete`, `fail`, `disk-full` or `expired`.
    """

    def __init__(self, job_id: str, workspace_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.workspace_id = workspace_id
        self._client: ImsClient | None = None
        self._runtime: Runtime | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and the arguments from which another triggerer creates this trigger again."""
        arguments = {"job_id": self.job_id, "workspace_id": self.workspace_id}
        return "ims.triggers.completion.CompletionTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fires once."""
        asked = -API_POLL_SECONDS
        while True:
            outcome = await sync_to_async(self._ask_runtime)()
            if outcome is None and time.monotonic() - asked > API_POLL_SECONDS:
                outcome = await sync_to_async(self._ask_api)()
                asked = time.monotonic()
            if outcome is not None:
                yield TriggerEvent({"outcome": outcome})
                return
            await asyncio.sleep(RUNTIME_POLL_SECONDS)

    def _ask_runtime(self) -> str | None:
        """The outcome of the shell; None if it is open or the runtime does not answer."""
        try:
            self._runtime = self._runtime or runtime()
            return self._runtime.shell_outcome(self.workspace_id)
        except ImsError as error:
            self.log.warning("%s", error)
            return None

    def _ask_api(self) -> str | None:
        """What a user requested, or `expired`; None if the shell stays open or the API does not answer."""
        try:
            self._client = self._client or api_client()  # a login costs more than the request
            shell = self._client.get(f"jobs/{self.job_id}/shell")
        except ImsError as error:
            self.log.warning("%s", error)
            self._client = None
            return None
        if shell["operation"] is not None:
            return str(shell["operation"])
        return "expired" if datetime.fromisoformat(shell["until"]) < datetime.now(UTC) else None
