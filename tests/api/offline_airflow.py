"""Airflow's API in memory: its runs, none of which a scheduler ever starts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from ims.api.errors import AirflowError
from ims.api.runs.airflow import AirflowApi
from ims.api.runs.runs import Run, run_of
from ims.workflows import job_workflow


class MemoryAirflow(AirflowApi):
    """The runs by their paths below `/api/v2`, and the requests that changed one."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.changes: list[tuple[str, str]] = []
        self.archs: dict[str, str] = {}
        self.is_paused = False

    async def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Answers the requests that the routes of jobs send. Raises AirflowError."""
        if path == "dags/~/dagRuns/list":
            return {"dag_runs": list(self.runs.values())}
        if path == "eventLogs":
            return {"event_logs": []}
        if method == "GET":
            return {"is_paused": self.is_paused}
        self.changes.append((method, path))
        if method == "POST":
            return self.add(path.split("/")[1], **arguments["json"])
        if method == "DELETE":
            return self._delete(path)
        return self._set(self.runs[path], **arguments["json"])

    def _delete(self, path: str) -> None:
        if self.runs[path]["state"] == "running":
            raise AirflowError(409, f"{path} cannot be deleted in running state")
        del self.runs[path]

    def _set(self, run: dict[str, Any], state: str, note: str | None = None) -> dict[str, Any]:
        """Ends what runs and skips what has not begun, but leaves teardowns, as Airflow does."""
        if state == "queued":
            run["state"] = state
            return run
        run["note"], steps = note, run["steps"]
        for task in job_workflow(run["dag_id"]).tasks:
            if not task.teardown or run["state"] == "queued":
                steps[task.id] = {"running": "failed", None: "skipped"}.get(steps[task.id], steps[task.id])
        return run

    def unfinished_runs(self) -> list[Run]:
        """The runs, none of which ends."""
        return [run_of(run) for run in self.runs.values()]

    def recorded_archs(self, runs: Iterable[Run]) -> dict[str, str]:
        """What the jobs recorded when they began."""
        return {run.job_id: self.archs[run.job_id] for run in runs if run.job_id in self.archs}

    async def may_read_results(self, dag_id: str) -> bool:
        """XComs do not exist."""
        return False

    async def find(self, path: str, **_arguments: Any) -> Any | None:
        """Returns a run, or None; XComs do not exist."""
        return self.runs.get(path)

    async def pages(self, path: str, items: str, **_query: Any) -> list[dict[str, Any]]:
        """Returns the runs of a workflow, or the task instances of a run."""
        if items == "dag_runs":
            return [run for name, run in self.runs.items() if name.startswith(f"{path}/")]
        return _instances(self.runs[path.removesuffix("/taskInstances")])

    async def search(self, path: str, items: str, **body: Any) -> list[dict[str, Any]]:
        """Returns all runs, or the task instances of the runs that the body names."""
        if items == "dag_runs":
            return list(self.runs.values())
        assert path == "dags/~/dagRuns/~/taskInstances/list"
        named = [run for run in self.runs.values() if run["dag_run_id"] in body["dag_run_ids"]]
        return [instance for run in named for instance in _instances(run)]

    def add(
        self, dag_id: str, dag_run_id: str, conf: dict[str, Any], state: str = "queued", note: str = "", **_: Any
    ) -> dict[str, Any]:
        """Adds a run, none of whose tasks has begun; returns it."""
        path = f"dags/{dag_id}/dagRuns/{dag_run_id}"
        if path in self.runs:
            raise AirflowError(409, f"{dag_run_id} exists")
        self.runs[path] = {
            **{"dag_id": dag_id, "dag_run_id": dag_run_id, "state": state, "conf": conf, "note": note},
            **dict.fromkeys(("run_after", "queued_at"), datetime.now(UTC)),
            **dict.fromkeys(("start_date", "end_date")),
            "steps": {task.id: None for task in job_workflow(dag_id).tasks},
        }
        return self.runs[path]


def _instances(run: dict[str, Any]) -> list[dict[str, Any]]:
    fields = {"map_index": -1, "try_number": 0, "start_date": None, "end_date": None}
    ids = {name: run[name] for name in ("dag_id", "dag_run_id")}
    return [{**fields, **ids, "task_id": task, "state": state} for task, state in run["steps"].items()]
