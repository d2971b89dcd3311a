"""Bodies of requests, read before anything looks into them."""

from __future__ import annotations

from starlette.types import Message, Receive

from ims.api.problems import Problem


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
