"""Waits in the triggerer until one of several jobs has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

POLL_SECONDS = 5.0
UNFINISHED = ["queued", "running"]
"""The states of runs that have not ended."""


class JobEndTrigger(BaseTrigger):
    """Fires when at least one of the runs has ended or was deleted.

    Airflow's DagStateTrigger would wait forever for a run that was deleted.
    """

    def __init__(self, dag_id: str, run_ids: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dag_id = dag_id
        self.run_ids = run_ids

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and the arguments from which another triggerer creates this trigger again."""
        return "ims.triggers.jobs.JobEndTrigger", {"dag_id": self.dag_id, "run_ids": self.run_ids}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fires once. The payload of the event is {running}: how many of the runs have not ended."""
        while (running := await sync_to_async(self._count_running)()) == len(self.run_ids):
            await asyncio.sleep(POLL_SECONDS)
        yield TriggerEvent({"running": running})

    def _count_running(self) -> int:
        # Not at the top: DAG files import this module.
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        return RuntimeTaskInstance.get_dr_count(dag_id=self.dag_id, run_ids=self.run_ids, states=UNFINISHED)
