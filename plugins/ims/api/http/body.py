"""Limits and form of requests, the same for all routes."""

from __future__ import annotations

from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_dependant
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ims.api.http.problems import Problem, problem_response

MAX_BODY = 1024 * 1024
"""Bytes that a request may send: a job, the longest list of ids, a recipe with its variables fit in."""


class BodyMiddleware:
    """Answers 413 if a body is larger than `MAX_BODY`, 415 if it is not JSON; otherwise passes it on."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on or answers it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if "content-length" not in headers and "transfer-encoding" not in headers:  # HTTP has no body without them
            await self.app(scope, replay(b"", receive), send)
            return
        try:
            body = await read_body(receive)
            if body and _media_type(Request(scope)) != "application/json":
                raise Problem(415, "the body must be application/json")
        except Problem as problem:
            await problem_response(problem.status, problem.detail)(scope, receive, send)
            return
        await self.app(scope, replay(body, receive), send)


async def read_body(receive: Receive) -> bytes:
    """Returns the whole body. Raises Problem: 413 if it is larger than `MAX_BODY`."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > MAX_BODY:
            raise Problem(413, f"the body is larger than {MAX_BODY} bytes")
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return body


def replay(body: bytes, receive: Receive) -> Receive:
    """Returns a channel that gives `body`, which was read from `receive`, and then whatever `receive` gives."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


async def check_form(request: Request) -> None:
    """Raises Problem: 400 for a query parameter that the route does not have, or for an empty body."""
    unknown = set(request.query_params) - _query_names(request)
    if unknown:
        # Ignoring a misspelt filter would delete everything.
        raise Problem(400, f"unknown query parameters: {', '.join(sorted(unknown))}")
    if request.method in ("PATCH", "POST", "PUT") and await _json(request) == {}:
        raise Problem(400, "the body is empty")


def _query_names(request: Request) -> set[str]:
    return {field.alias for field in parameters(request).query_params} if request.query_params else set()


def parameters(request: Request) -> Dependant:
    """Returns the parameters of the route of a request, with those of its dependencies."""
    route = request.scope["route"]
    if id(route) not in _PARAMETERS:
        _PARAMETERS[id(route)] = route, get_flat_dependant(route.dependant)
    return _PARAMETERS[id(route)][1]


# With the route, so that no other route gets its id.
_PARAMETERS: dict[int, tuple[Any, Dependant]] = {}


async def _json(request: Request) -> Any:
    return await request.json() if await request.body() else None


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
