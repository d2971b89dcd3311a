"""The door to Airflow's own `POST /dags/{id}/dagRuns`, which the UI uses too.

Airflow checks params against their schemas but takes unknown keys and ids of things that do not exist. Both are refused
here, before a run is made, by the same rules as `POST /jobs`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from fastapi import HTTPException
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ims.api import references
from ims.api.problems import Problem, problem_response
from ims.api.runs import WORKFLOWS
from ims.api.services import records

MAX_BODY = 1024 * 1024
_TRIGGER = re.compile(r"/api/v2/dags/(?P<dag_id>[^/]+)/dagRuns/?")


class Door:
    """ASGI middleware around all of Airflow; it looks only at requests that start our workflows."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it if the run that it asks for cannot be."""
        match = _TRIGGER.fullmatch(scope.get("path", "")) if scope["type"] == "http" else None
        if match is None or scope["method"] != "POST" or match["dag_id"] not in WORKFLOWS:
            await self.app(scope, receive, send)
            return
        try:
            body = await _read(receive)
            if await _is_known(Request(scope)):
                await run_in_threadpool(check_conf, match["dag_id"], body)
        except Problem as problem:
            answer = problem_response(problem.status, problem.detail, problem.errors)
            await answer(scope, receive, send)
            return
        await self.app(scope, _again(body), send)


def check_conf(dag_id: str, body: bytes) -> None:
    """Raises Problem: the conf in the body is not a job's. A body that is not JSON is left to Airflow to refuse."""
    try:
        conf = json.loads(body).get("conf")
    except (ValueError, AttributeError):
        return
    try:
        job: Any = WORKFLOWS[dag_id].model_validate({} if conf is None else conf)
    except ValidationError as error:
        raise references.invalid(error) from None
    references.check(job, records())


async def _is_known(request: Request) -> bool:
    """Whether the caller has a valid token: who has none is refused by Airflow and learns nothing from us."""
    from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
    from airflow.api_fastapi.core_api.security import resolve_user_from_token

    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        token = request.cookies.get(COOKIE_NAME_JWT_TOKEN, "")
    try:
        await resolve_user_from_token(token or None)
    except HTTPException:
        return False
    return True


async def _read(receive: Receive) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > MAX_BODY:
            raise Problem(413, f"the body is larger than {MAX_BODY} bytes")
        if not message.get("more_body", False):
            return body


def _again(body: bytes) -> Receive:
    """A channel that gives the body once more."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive
