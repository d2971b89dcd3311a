"""The log of a step as plain text, streamed from Airflow's API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from ims.api.http.auth import may_read
from ims.api.http.schemas import Id
from ims.api.runs.airflow import AirflowApi, AirflowService
from ims.api.runs.lookup import expect_job, with_steps
from ims.api.runs.runs import Run, TaskInstance
from ims.api.runs.states import RUN_ENDED, TASK_LOGS
from ims.errors import ImsError, MissingError

POLL_SECONDS = 1.0
_SOURCES = "::group::Log message source details"
_MARKS = ("::group::", "::endgroup::")

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get(
    "/{id}/logs/{step}",
    dependencies=[may_read()],
    response_class=StreamingResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def get_log(
    identity: Id,
    step: str,
    airflow: AirflowService,
    number: Annotated[int | None, Query(alias="try", ge=1, le=1000, description="the latest by default")] = None,
    follow: Annotated[bool, Query(description="continue until the step has ended")] = False,
) -> StreamingResponse:
    """Get the log of a step, named as in the `steps` of the job: `build_image`, `upload_artifacts[0]`."""
    run = await expect_job(airflow, identity)
    state = _step(run, step)
    attempt = number or state.try_number
    if attempt > state.try_number or (attempt == 0 and not follow):
        raise MissingError(f"{step} of the job {identity} has no try {number}" if number else f"{step} has not begun")
    text = _followed(airflow, run, step, number) if follow else _text(airflow, run, state, attempt)
    # Compression would delay lines.
    headers = {"Content-Encoding": "identity"} if follow else None
    return StreamingResponse(text, media_type="text/plain", headers=headers)


def _step(run: Run, label: str) -> TaskInstance:
    for step in run.steps:
        if step.label == label:
            return step
    known = ", ".join(step.label for step in run.steps) or "none yet"
    raise MissingError(f"the job {run.job_id} has no step {label}; its steps: {known}")


async def _text(airflow: AirflowApi, run: Run, step: TaskInstance, attempt: int) -> AsyncIterator[str]:
    """Yields what has been logged until now."""
    shown = Lines()
    async for line in airflow.lines(_path(run, step, attempt), params={"map_index": step.map_index}):
        for text in shown.of(json.loads(line)):
            yield text


async def _followed(airflow: AirflowApi, run: Run, label: str, number: int | None) -> AsyncIterator[str]:
    """Yields what is logged until the step, or its try `number`, has ended.

    Airflow reports the end of a log whenever the try does not run: also before it begins, and while it is deferred.
    """
    attempt, shown, before = number or max(_step(run, label).try_number, 1), 0, ""
    try:
        while True:
            step = _step(run, label)
            if step.try_number >= attempt and (step.state in TASK_LOGS or step.state != before):
                async for text in _attempt(airflow, run, step, attempt, shown):
                    shown += 1
                    yield text
            before = step.state or ""
            if step.try_number > attempt and number is None:
                attempt, shown, before = attempt + 1, 0, ""
            elif step.try_number > attempt or step.has_ended or run.state in RUN_ENDED:
                return
            else:
                await asyncio.sleep(POLL_SECONDS)
                run = await with_steps(airflow, await expect_job(airflow, run.run_id))
    except ImsError as error:  # the status of the answer has already been sent
        yield f"the log ends here: {error}\n"


async def _attempt(airflow: AirflowApi, run: Run, step: TaskInstance, attempt: int, skip: int) -> AsyncIterator[str]:
    """Yields the lines of a try after the first `skip`, until it no longer runs."""
    shown = Lines()
    token: str | None = None
    while True:
        query = {"map_index": step.map_index, **({"token": token} if token else {})}
        page = await airflow.call("GET", _path(run, step, attempt), params=query)
        for message in page["content"]:
            for text in shown.of(message):
                if skip > 0:
                    skip -= 1
                else:
                    yield text
        token = page["continuation_token"]
        if token is None:
            return
        await asyncio.sleep(POLL_SECONDS)


def _path(run: Run, step: TaskInstance, attempt: int) -> str:
    return f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{step.name}/logs/{attempt}"


class Lines:
    """Turns messages of a log into lines of text. Leaves out the path of the log file on this machine."""

    def __init__(self) -> None:
        self._inside = False

    def of(self, message: dict[str, Any]) -> Iterable[str]:
        """Returns the lines for the next message."""
        event = str(message.get("event", ""))
        self._inside = self._inside or event == _SOURCES
        if self._inside or event.startswith(_MARKS):
            self._inside = self._inside and event != "::endgroup::"
            return
        head = [message.get("timestamp"), str(message.get("level") or "").upper() or None, event]
        yield " ".join(part for part in head if part) + "\n"
        for error in message.get("error_detail") or ():
            yield f"{error.get('exc_type')}: {error.get('exc_value')}\n"
