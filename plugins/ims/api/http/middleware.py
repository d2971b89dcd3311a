"""The gate of our API: who calls and what is sent is looked at before the body is parsed."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ims.api.http.auth import caller
from ims.api.http.body import once_more, read_body
from ims.api.http.problems import Problem, problem_response

MAX_BODY = 1024 * 1024
OPEN = ("/version", "/healthz/ready", "/healthz/live")


class Gate:
    """ASGI middleware: 401 without a valid token, 413 for a body that is too large, 415 for one that is not JSON."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or answer it."""
        if scope["type"] != "http" or scope["path"].removeprefix(scope.get("root_path", "")) in OPEN:
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        try:
            if await caller(request) is None:
                raise Problem(401, "no valid token; get one from POST /auth/token and send it as a Bearer token")
            body = await read_body(receive, MAX_BODY)
            if body and request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise Problem(415, "the body must be application/json")
        except Problem as problem:
            headers = {"WWW-Authenticate": "Bearer"} if problem.status == 401 else None
            await problem_response(problem.status, problem.detail, headers=headers)(scope, receive, send)
            return
        await self.app(scope, once_more(body, receive), send)
