"""Cancelling and deleting jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.concurrency import run_in_threadpool

from ims.api.http.auth import CurrentCaller
from ims.api.http.services import AuditService
from ims.api.runs.airflow import AirflowService
from ims.api.runs.reasons import cancel
from ims.api.runs.runs import Run
from ims.api.runs.states import RUN_NOT_ENDED


class JobDeletion:
    """Cancels and deletes jobs for the caller of a request."""

    def __init__(self, airflow: AirflowService, caller: CurrentCaller, audit: AuditService) -> None:
        self._airflow = airflow
        self._caller = caller
        self._audit = audit

    async def cancel(self, run: Run) -> None:
        """Cancel a job that runs or is queued."""
        await cancel(self._airflow, run, f"by {self._caller.name}")
        await self._log(run, "cancel")

    async def delete(self, run: Run) -> None:
        """Delete a job that has ended or never ends; cancel any other."""
        # A run that is cancelled while it is queued ends when it would start: never, if its workflow is paused.
        never_starts = run.state == "queued" and run.is_cancelled
        never_ends = run.awaits_clean_up and await self._is_paused(run)
        if run.state in RUN_NOT_ENDED and not never_starts and not never_ends:
            await self.cancel(run)
            return
        path = f"dags/{run.dag_id}/dagRuns/{run.run_id}"
        if never_ends:
            await self._airflow.call("PATCH", path, json={"state": "queued"})  # Airflow deletes no run that is running
        await self._airflow.call("DELETE", path)
        await self._log(run, "delete")

    async def _is_paused(self, run: Run) -> bool:
        return bool((await self._airflow.call("GET", f"dags/{run.dag_id}"))["is_paused"])

    async def _log(self, run: Run, action: str) -> None:
        await run_in_threadpool(self._audit.add, "job", run.job_id, run.job.image_root_archive_name, action)


DeletionService = Annotated[JobDeletion, Depends()]
