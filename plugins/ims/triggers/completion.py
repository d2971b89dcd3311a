"""Waits in the triggerer until a shell is finished or given up, or its lease ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent
from asgiref.sync import sync_to_async

from ims.client import ImsClient
from ims.connections import api_client
from ims.errors import ImsError
from ims.runtime.base import Runtime
from ims.runtime.choice import runtime

RUNTIME_POLL_SECONDS = 1.0
API_POLL_SECONDS = 3.0
ANSWER_SECONDS = 90.0
"""How long a shell may take to answer whether it can be finished. Its user can slow it down, and it may be starting."""


class CompletionTrigger(BaseTrigger):
    """Asks the runtime whether the shell has ended, and the API whether a user finished it or its lease has ended.

    If a user finishes the shell through the API, the shell decides, as it does about the marker of its user. If it is
    finished, the task ends without another start. Otherwise, the payload of the event is {outcome}: `fail`, `disk-full`
    or `expired`; or {refusal}: why the shell stays open although a user of the API finished it.
    """

    def __init__(self, job_id: str, workspace_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.workspace_id = workspace_id
        self._client: ImsClient | None = None
        self._runtime: Runtime | None = None
        self._finish_until: float | None = None
        self._is_asked = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and the arguments from which another triggerer creates this trigger again."""
        arguments = {"job_id": self.job_id, "workspace_id": self.workspace_id}
        return "ims.triggers.completion.CompletionTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fires once."""
        asked = -API_POLL_SECONDS
        while True:
            event = await sync_to_async(self._ask_runtime)()
            if event is None and time.monotonic() - asked > API_POLL_SECONDS:
                event = await sync_to_async(self._ask_api)()
                asked = time.monotonic()
            if event is not None:
                yield self._event(event)
                return
            await asyncio.sleep(RUNTIME_POLL_SECONDS)

    def _event(self, found: dict[str, str]) -> TriggerEvent:
        if found != {"outcome": "complete"}:
            return TriggerEvent(found)
        self.log.info("the shell is finished")
        return TaskSuccessEvent()

    def _connect(self) -> Runtime:
        """The runtime, with the connection of the first call."""
        self._runtime = self._runtime or runtime()
        return self._runtime

    def _ask_runtime(self) -> dict[str, str] | None:
        """The event if the shell has ended or has refused to; None if it is open or the runtime does not answer."""
        try:
            if outcome := self._connect().shell_outcome(self.workspace_id):
                return {"outcome": outcome}
            refusal = self._connect().shell_refusal(self.workspace_id) if self._is_asked else None
        except ImsError as error:
            self.log.warning("%s", error)
            return None
        return {"refusal": refusal} if refusal else None

    def _ask_api(self) -> dict[str, str] | None:
        """The event if a user gave up, or the lease ended; None if the shell stays open or the API does not answer."""
        try:
            self._client = self._client or api_client()  # a login costs more than the request
            shell = self._client.get(f"jobs/{self.job_id}/shell")
        except ImsError as error:
            self.log.warning("%s", error)
            self._client = None
            return None
        if shell["operation"] == "complete":
            return self._finish()
        if shell["operation"] is not None:
            return {"outcome": str(shell["operation"])}
        return {"outcome": "expired"} if datetime.fromisoformat(shell["until"]) < datetime.now(UTC) else None

    def _finish(self) -> dict[str, str] | None:
        """Ask the shell to end. If it gives no answer in time, it ends all the same; packing looks for the files."""
        now = time.monotonic()
        self._finish_until = self._finish_until or now + ANSWER_SECONDS
        if now > self._finish_until:
            self.log.warning(
                "the shell did not say in %d s whether it can be finished; the job goes on", ANSWER_SECONDS
            )
            return {"outcome": "complete"}
        if not self._is_asked:
            try:
                self._connect().finish_shell(self.workspace_id)
                self._is_asked = True
            except ImsError as error:
                self.log.warning("%s", error)
        return None
