"""What the triggerer does while a night waits for jobs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from ims.triggers import jobs
from ims.triggers.jobs import JobEndTrigger


@pytest.mark.parametrize("ended", ["success", "failed", None], ids=["success", "failed", "deleted"])
def test_one_job_ends(monkeypatch: pytest.MonkeyPatch, ended: str | None) -> None:
    """The trigger fires for the first job that ends or is deleted, and not before."""
    states: dict[str, str | None] = {"a": "running", "b": "queued", "other": "success"}

    def count(dag_id: str, run_ids: list[str], states: list[str], found: Any = states) -> int:
        assert dag_id == "customize_image"
        return sum(found[run] in states for run in run_ids)

    monkeypatch.setattr(RuntimeTaskInstance, "get_dr_count", staticmethod(count))
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.001)

    async def run() -> Any:
        kind, arguments = JobEndTrigger("customize_image", ["a", "b"]).serialize()
        assert kind == "ims.triggers.jobs.JobEndTrigger"
        event = asyncio.ensure_future(anext(JobEndTrigger(**arguments).run()))
        await asyncio.sleep(0.03)
        assert not event.done()
        states["b"] = ended
        return (await asyncio.wait_for(event, 10)).payload

    assert asyncio.run(run()) == {"running": 1}
