"""Guards Airflow's own `POST /dags/{id}/dagRuns`, which the UI uses too.

Airflow checks params against their schemas but takes unknown keys and ids of things that do not exist. Both are refused
here, before a run is made, by the same rules as `POST /jobs`.
"""

from __future__ import annotations

import json
import re

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ims.api.http.auth import authenticate, run_permission
from ims.api.http.body import read_body, replay
from ims.api.http.problems import Problem, problem_response
from ims.api.http.services import object_store, records
from ims.api.runs import job_checks
from ims.params import JobParams, NightParams
from ims.workflows import Workflow, find_workflow

_TRIGGER = re.compile(r"/api/v2/dags/(?P<dag_id>[^/]+)/dagRuns/?")


class TriggerGuard:
    """ASGI middleware around all of Airflow; it looks only at requests that start our workflows."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it if the run that it asks for cannot be."""
        workflow = _triggered(scope)
        if workflow is None:
            await self.app(scope, receive, send)
            return
        try:
            body = await read_body(receive)
            caller = await authenticate(Request(scope))
            # A caller whom Airflow will refuse does not learn what exists.
            if caller is not None and await caller.has(run_permission(workflow.dag_id)):
                await run_in_threadpool(check_conf, workflow, body)
        except Problem as problem:
            answer = problem_response(problem.status, problem.detail, problem.errors)
            await answer(scope, receive, send)
            return
        await self.app(scope, replay(body, receive), send)


def _triggered(scope: Scope) -> Workflow | None:
    """The workflow that a request starts; None if it does something else."""
    match = _TRIGGER.fullmatch(scope.get("path", "")) if scope["type"] == "http" else None
    return find_workflow(match["dag_id"]) if match is not None and scope["method"] == "POST" else None


def check_conf(workflow: Workflow, body: bytes) -> None:
    """Raises Problem: the conf in the body is not the workflow's. What is not JSON is left to Airflow to refuse."""
    try:
        conf = json.loads(body).get("conf")
    except (ValueError, AttributeError, RecursionError):
        return
    try:
        params = workflow.params.model_validate({} if conf is None else conf)
    except ValidationError as error:
        raise job_checks.invalid(error, "conf") from None
    if isinstance(params, NightParams):
        job_checks.check_night(params, records())
    elif isinstance(params, JobParams):
        job_checks.check(params, records(), object_store())
