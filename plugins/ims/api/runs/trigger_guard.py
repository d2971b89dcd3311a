"""Guards Airflow's own `POST /dags/{id}/dagRuns`, which the UI uses too.

Airflow checks params against their schemas, but accepts unknown keys and ids of records that do not exist. The guard
refuses both before Airflow creates a run, by the same rules as `POST /jobs`. It also refuses ids that another run of
any of our workflows has, because everything that a job leaves is found by that id, and changes of XComs, by which the
tasks of a job tell each other which files and objects are theirs, and the deletion of a whole workflow.
"""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ims.api.errors import ConflictError, FieldError
from ims.api.http.auth import authenticate, path_below_root, run_permission
from ims.api.http.body import read_body, replay
from ims.api.http.problems import Problem, error_response, problem_response
from ims.api.http.services import object_store, records
from ims.api.runs.airflow import is_internal
from ims.api.runs.every_run import dags_with_run
from ims.api.runs.job_checks import check_job, check_night
from ims.api.runs.lookup import RUN_ID
from ims.api.runs.references import references, with_ids
from ims.api.runs.runs import first_note
from ims.errors import ImsError
from ims.jobs import is_derived_id
from ims.params import JobParams, NightParams, boot_files
from ims.workflows import Workflow, find_workflow

_DAG = r"/api/v2/dags/(?P<dag_id>[^/]+)"
_TASK = rf"{_DAG}/dagRuns/[^/]+/taskInstances/[^/]+"
_TRIGGER = re.compile(rf"{_DAG}/dagRuns/?")
_FORBIDDEN = (
    (
        re.compile(rf"{_TASK}/(xcomEntries|state-store)(/.*)?", re.DOTALL),
        ("POST", "PUT", "PATCH", "DELETE"),
        "only the tasks of a job write its XComs; start another job instead",
    ),
    (
        re.compile(rf"{_DAG}/?"),
        ("DELETE",),
        "the service needs its workflows, whose runs are its jobs; delete single jobs instead",
    ),
)
"""Requests that nobody may send, with the reasons: paths and methods."""
MAX_RUN_ID = 200


class TriggerGuard:
    """ASGI middleware around all of Airflow; it acts only on requests that start our workflows or write to their runs.

    Calls from our own routes pass: the routes have checked them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers it if the run is not allowed."""
        if scope["type"] != "http" or is_internal(scope) or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        try:
            body = await self._checked(scope, receive)
        except Problem as problem:
            await problem_response(problem.status, problem.detail)(scope, receive, send)
        except ImsError as error:
            await error_response(error)(scope, receive, send)
        else:
            await self.app(scope, receive if body is None else replay(body, receive), send)

    async def _checked(self, scope: Scope, receive: Receive) -> bytes | None:
        """Returns the body for Airflow, or None if nobody has read it. Raises Problem or ImsError."""
        for pattern, methods, reason in _FORBIDDEN:
            is_forbidden = scope["method"] in methods and _found(pattern, scope) is not None
            if is_forbidden and await authenticate(Request(scope)) is not None:
                raise Problem(403, reason)
        if scope["method"] != "POST" or (workflow := _found(_TRIGGER, scope)) is None:
            return None
        body = await read_body(receive)
        # A caller whom Airflow will refuse does not learn what exists.
        return await run_in_threadpool(check_trigger, workflow, body) if await _may_run(workflow, scope) else body


def _found(pattern: re.Pattern[str], scope: Scope) -> Workflow | None:
    """Returns our workflow that the path of a request names, or None."""
    match = pattern.fullmatch(path_below_root(scope))
    return find_workflow(match["dag_id"]) if match is not None else None


async def _may_run(workflow: Workflow, scope: Scope) -> bool:
    caller = await authenticate(Request(scope))
    return caller is not None and await caller.has(run_permission(workflow.dag_id))


def check_trigger(workflow: Workflow, body: bytes) -> bytes:
    """Returns the body for Airflow: the run always has an id, its records too, and empty names of files are left out.

    The note of a job says which image it makes, unless the user wrote another.

    Airflow refuses what is not JSON.

    Raises FieldError if the workflow does not accept the `conf`, or if the id is malformed; ConflictError if another
    run has the id.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(request, dict):
        return body
    conf = request.get("conf")
    params = check_conf(workflow, conf)
    if conf is not None:
        conf = boot_files.without_empty({**conf, **references(params)})
    run_id = request.get("dag_run_id")
    if run_id in (None, ""):
        # Airflow would derive an id from the times in the body, which could be that of a run of another workflow.
        run_id = new_run_id()
    else:
        check_run_id(run_id)
    if isinstance(params, JobParams) and not request.get("note"):
        request["note"] = first_note(params, run_id)
    return json.dumps({**request, "dag_run_id": run_id, "conf": conf}).encode()


def new_run_id() -> str:
    """An id in the form of Airflow's own that no other run has."""
    return f"manual__{datetime.now(UTC).isoformat()}_{uuid.uuid4().hex[:8]}"


def check_run_id(run_id: Any) -> None:
    """Raises FieldError if a user may not choose this id for a run, ConflictError if another run has it."""
    if not isinstance(run_id, str) or len(run_id) > MAX_RUN_ID or RUN_ID.fullmatch(run_id) is None:
        raise FieldError.of("dag_run_id", f"at most {MAX_RUN_ID} letters, digits and _ . ~ : + -, and no dot first")
    if is_derived_id(run_id):
        raise FieldError.of("dag_run_id", "UUIDs of version 5 are reserved for the service; leave it out")
    if dags := dags_with_run(run_id):
        raise ConflictError(f"dag_run_id: {run_id} is the id of a run of {', '.join(dags)}; leave it out")


def check_conf(workflow: Workflow, conf: Any) -> BaseModel:
    """Returns the params of a run, with the ids of the records that its `conf` names.

    Raises FieldError if the workflow does not accept it.
    """
    try:
        params = workflow.params.model_validate({} if conf is None else conf)
    except ValidationError as error:
        raise FieldError.from_validation(error, "conf") from None
    params = with_ids(params, records())
    if isinstance(params, NightParams):
        check_night(params, records())
    elif isinstance(params, JobParams):
        check_job(params, records(), object_store())
    return params
