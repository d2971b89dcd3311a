"""The form of requests, whatever the route: bodies of bounded size, no query parameters that nobody reads."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.dependencies.utils import get_flat_dependant
from starlette.types import Message, Receive

from ims.api.http.problems import Problem


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body. Raises Problem: 413, it is larger than `limit` bytes."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > limit:
            raise Problem(413, f"the body is larger than {limit} bytes")
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return body


def once_more(body: bytes, receive: Receive) -> Receive:
    """A channel that gives a body that was read from `receive` already, and then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


async def check_form(request: Request) -> None:
    """Raises Problem: 400, a query parameter is unknown to the route, or the body is an object without members."""
    known = {field.alias for field in get_flat_dependant(request.scope["route"].dependant).query_params}
    unknown = set(request.query_params) - known
    if unknown:
        # Ignoring a misspelt filter would delete everything.
        raise Problem(400, f"unknown query parameters: {', '.join(sorted(unknown))}")
    if request.method in ("PATCH", "POST", "PUT") and await _body(request) == {}:
        raise Problem(400, "the body is empty")


async def _body(request: Request) -> Any:
    return await request.json() if await request.body() else None
