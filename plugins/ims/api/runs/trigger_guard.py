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

from ims.api.http.auth import caller, may, may_run
from ims.api.http.body import once_more, read_body
from ims.api.http.problems import Problem, problem_response
from ims.api.http.services import object_store, records
from ims.api.runs import job_checks
from ims.api.runs.night_views import NIGHTLY
from ims.api.runs.runs import WORKFLOWS
from ims.jobs import CleanUp, Job, Night

MAX_BODY = 1024 * 1024
CONFS: dict[str, type[Job | CleanUp | Night]] = {**WORKFLOWS, "image_maintenance": CleanUp, NIGHTLY: Night}
_TRIGGER = re.compile(r"/api/v2/dags/(?P<dag_id>[^/]+)/dagRuns/?")


class TriggerGuard:
    """ASGI middleware around all of Airflow; it looks only at requests that start our workflows."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it if the run that it asks for cannot be."""
        match = _TRIGGER.fullmatch(scope.get("path", "")) if scope["type"] == "http" else None
        if match is None or scope["method"] != "POST" or match["dag_id"] not in CONFS:
            await self.app(scope, receive, send)
            return
        try:
            body = await read_body(receive, MAX_BODY)
            request = Request(scope)
            user = await caller(request)
            # Whom Airflow will refuse is not told what exists.
            if user is not None and may(may_run(match["dag_id"]), request, user):
                await run_in_threadpool(check_conf, match["dag_id"], body)
        except Problem as problem:
            answer = problem_response(problem.status, problem.detail, problem.errors)
            await answer(scope, receive, send)
            return
        await self.app(scope, once_more(body, receive), send)


def check_conf(dag_id: str, body: bytes) -> None:
    """Raises Problem: the conf in the body is not the workflow's. What is not JSON is left to Airflow to refuse."""
    try:
        conf = json.loads(body).get("conf")
    except (ValueError, AttributeError, RecursionError):
        return
    try:
        wanted = CONFS[dag_id].model_validate({} if conf is None else conf)
    except ValidationError as error:
        raise job_checks.invalid(error, "conf") from None
    if isinstance(wanted, Night):
        job_checks.check_night(wanted, records())
    elif isinstance(wanted, Job):
        job_checks.check(wanted, records(), object_store())
