"""An HTTP transport that calls an application in the same process and streams the answer.

The transport of httpx collects the whole body first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
from starlette.types import ASGIApp, Message

AHEAD = 8  # chunks that the application may send before they are read


class StreamingTransport(httpx.AsyncBaseTransport):
    """Calls `app` without the bodies of requests, so it is only for reading."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Returns the answer as soon as its headers arrive."""
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
        """Returns the next message of the application. Raises whatever the application raises."""
        message = await self._messages.get()
        if isinstance(message, BaseException):
            raise message
        return message

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yields the chunks of the body."""
        more = True
        while more:
            message = await self.next()
            yield message.get("body", b"")
            more = message.get("more_body", False)
        await self._task
        if not self._messages.empty():  # after a failure, too, a middleware ends the body as if it were complete
            await self.next()

    async def aclose(self) -> None:
        """Stops the application, even if it has not finished."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self, app: ASGIApp, request: httpx.Request) -> None:
        try:
            await app(_scope(request), self._receive, self._messages.put)
        except Exception as error:
            await self._messages.put(error)

    async def _receive(self) -> Message:
        """Returns the empty body; then waits until `aclose` cancels the task."""
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
