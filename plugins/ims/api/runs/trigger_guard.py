"""Guards Airflow's own `POST /dags/{id}/dagRuns`, which the UI uses too.

Airflow checks params against their schemas, but accepts unknown keys and ids of records that do not exist. The guard
refuses both before Airflow creates a run, by the same rules as `POST /jobs`.
"""

from __future__ import annotations

import json
import re

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ims.api.errors import FieldError
from ims.api.http.auth import authenticate, run_permission
from ims.api.http.body import read_body, replay
from ims.api.http.problems import Problem, error_response, problem_response
from ims.api.http.services import object_store, records
from ims.api.runs.airflow import is_internal
from ims.api.runs.job_checks import check_job, check_night
from ims.errors import ImsError
from ims.params import JobParams, NightParams
from ims.workflows import Workflow, find_workflow

_TRIGGER = re.compile(r"/api/v2/dags/(?P<dag_id>[^/]+)/dagRuns/?")


class TriggerGuard:
    """ASGI middleware around all of Airflow; it acts only on requests that start our workflows.

    Calls from our own routes pass: the routes have checked them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers it if the run is not allowed."""
        workflow = _triggered(scope)
        if workflow is None or is_internal(scope):
            await self.app(scope, receive, send)
            return
        try:
            body = await read_body(receive)
            caller = await authenticate(Request(scope))
            # A caller whom Airflow will refuse does not learn what exists.
            if caller is not None and await caller.has(run_permission(workflow.dag_id)):
                await run_in_threadpool(check_conf, workflow, body)
        except Problem as problem:
            await problem_response(problem.status, problem.detail)(scope, receive, send)
        except ImsError as error:
            await error_response(error)(scope, receive, send)
        else:
            await self.app(scope, replay(body, receive), send)


def _triggered(scope: Scope) -> Workflow | None:
    """Returns the workflow that a request starts, or None if it does something else."""
    match = _TRIGGER.fullmatch(scope.get("path", "")) if scope["type"] == "http" else None
    return find_workflow(match["dag_id"]) if match is not None and scope["method"] == "POST" else None


def check_conf(workflow: Workflow, body: bytes) -> None:
    """Raises FieldError if the workflow does not accept the `conf` in the body. Airflow refuses what is not JSON."""
    try:
        conf = json.loads(body).get("conf")
    except (ValueError, AttributeError, RecursionError):
        return
    try:
        params = workflow.params.model_validate({} if conf is None else conf)
    except ValidationError as error:
        raise FieldError.from_validation(error, "conf") from None
    if isinstance(params, NightParams):
        check_night(params, records())
    elif isinstance(params, JobParams):
        check_job(params, records(), object_store())
