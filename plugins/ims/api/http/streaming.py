"""An HTTP transport into an application of the same process that hands on the answer while it is made.

httpx's own collects the whole body first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
from starlette.types import ASGIApp, Message

AHEAD = 8  # pieces that the application may make before somebody takes them


class StreamingTransport(httpx.AsyncBaseTransport):
    """Calls `app`. Bodies of requests are not sent: this is for reading."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer, once its headers are there."""
        exchange = Exchange(self._app, request)
        start = await exchange.next()
        return httpx.Response(start["status"], headers=start["headers"], stream=exchange)


class Exchange(httpx.AsyncByteStream):
    """One request and its answer."""

    def __init__(self, app: ASGIApp, request: httpx.Request) -> None:
        self._asked = False
        self._messages: asyncio.Queue[Message | BaseException] = asyncio.Queue(AHEAD)
        self._task = asyncio.create_task(self._run(app, request))

    async def next(self) -> Message:
        """The application's next message. Raises what the application raises."""
        message = await self._messages.get()
        if isinstance(message, BaseException):
            raise message
        return message

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces of the body."""
        more = True
        while more:
            message = await self.next()
            yield message.get("body", b"")
            more = message.get("more_body", False)
        await self._task
        if not self._messages.empty():  # a middleware ends the body of an application that failed as if it were whole
            await self.next()

    async def aclose(self) -> None:
        """Let the application go, done or not."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self, app: ASGIApp, request: httpx.Request) -> None:
        try:
            await app(_scope(request), self._receive, self._messages.put)
        except Exception as error:
            await self._messages.put(error)

    async def _receive(self) -> Message:
        """The empty body, and then nothing: `aclose` ends who waits for more."""
        if self._asked:
            await asyncio.Event().wait()
        self._asked = True
        return {"type": "http.request", "body": b"", "more_body": False}


def _scope(request: httpx.Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query,
        "server": (request.url.host, request.url.port),
        "client": ("127.0.0.1", 0),
        "root_path": "",
    }
