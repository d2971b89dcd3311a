"""The log of a job's step as plain text, read through Airflow's own API and handed on while it comes."""

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
from ims.api.runs.runs import Run, StepState
from ims.api.runs.states import RUN_ENDED, TASK_LOGS
from ims.errors import ImsError, MissingError

POLL = 1.0
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
    number: Annotated[int | None, Query(alias="try", ge=1, le=1000, description="the latest if not given")] = None,
    follow: Annotated[bool, Query(description="go on until the step has ended")] = False,
) -> StreamingResponse:
    """The log of a step, named as in the job's `steps`: `build_image`, `upload_artifacts[0]`."""
    run = await expect_job(airflow, identity)
    state = _step(run, step)
    attempt = number or state.try_number
    if attempt > state.try_number or (attempt == 0 and not follow):
        raise MissingError(f"{step} of the job {identity} has no try {number}" if number else f"{step} has not begun")
    text = _followed(airflow, run, step, number) if follow else _text(airflow, run, state, attempt)
    # Airflow's compression would hold lines back.
    headers = {"Content-Encoding": "identity"} if follow else None
    return StreamingResponse(text, media_type="text/plain", headers=headers)


def _step(run: Run, label: str) -> StepState:
    for step in run.steps:
        if step.label == label:
            return step
    known = ", ".join(step.label for step in run.steps) or "none yet"
    raise MissingError(f"the job {run.job_id} has no step {label}; its steps: {known}")


async def _text(airflow: AirflowApi, run: Run, step: StepState, attempt: int) -> AsyncIterator[str]:
    """What is logged by now."""
    shown = Lines()
    async for line in airflow.lines(_path(run, step, attempt), params={"map_index": step.map_index}):
        for text in shown.of(json.loads(line)):
            yield text


async def _followed(airflow: AirflowApi, run: Run, label: str, number: int | None) -> AsyncIterator[str]:
    """What is logged until the step, or the try `number` of it, has ended.

    Airflow says that a log is at its end whenever its try does not run: also before it begins, and between its parts.
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
                await asyncio.sleep(POLL)
                run = await with_steps(airflow, await expect_job(airflow, run.run_id))
    except ImsError as error:  # the status of the answer was sent already
        yield f"the log ends here: {error}\n"


async def _attempt(airflow: AirflowApi, run: Run, step: StepState, attempt: int, skip: int) -> AsyncIterator[str]:
    """The lines of a try but for the first `skip`, until it does not run."""
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
        await asyncio.sleep(POLL)


def _path(run: Run, step: StepState, attempt: int) -> str:
    return f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{step.name}/logs/{attempt}"


class Lines:
    """Messages of a log as lines of text. Where in this machine the log is kept is left out."""

    def __init__(self) -> None:
        self._inside = False

    def of(self, message: dict[str, Any]) -> Iterable[str]:
        """The lines for the next message."""
        event = str(message.get("event", ""))
        self._inside = self._inside or event == _SOURCES
        if self._inside or event.startswith(_MARKS):
            self._inside = self._inside and event != "::endgroup::"
            return
        head = [message.get("timestamp"), str(message.get("level") or "").upper() or None, event]
        yield " ".join(part for part in head if part) + "\n"
        for error in message.get("error_detail") or ():
            yield f"{error.get('exc_type')}: {error.get('exc_value')}\n"
