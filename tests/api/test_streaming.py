"""The transport that streams answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ims.api.http.streaming import AHEAD, StreamingTransport

made: list[int] = []


async def count(_request: Request) -> Response:
    """A long answer that counts the chunks it has produced."""

    async def numbers() -> AsyncIterator[str]:
        for number in range(1000):
            made.append(number)
            yield f"{number}\n"

    made.clear()
    return StreamingResponse(numbers())


async def wait(_request: Request) -> Response:
    """An answer that never ends."""

    async def forever() -> AsyncIterator[str]:
        made.clear()
        yield "first\n"
        try:
            await asyncio.Event().wait()
        finally:
            made.append(-1)

    return StreamingResponse(forever())


async def fail(_request: Request) -> Response:
    """An application that fails in the middle of its answer."""

    async def broken() -> AsyncIterator[str]:
        yield "first\n"
        raise ValueError("a defect")

    return StreamingResponse(broken())


async def echo(request: Request) -> Response:
    """Returns the chunks that arrive."""
    return PlainTextResponse(f"{request.url.path}?{request.url.query} {request.headers['x-test']}", 418)


async def look(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """A middleware of the kind that Airflow uses."""
    return await call_next(request)


APP = Starlette(
    routes=[Route(f"/{route.__name__}", route) for route in (count, wait, fail, echo)],
    middleware=[Middleware(BaseHTTPMiddleware, dispatch=look)],
)


def client() -> httpx.AsyncClient:
    """Returns a client of the application."""
    return httpx.AsyncClient(transport=StreamingTransport(APP), base_url="http://test", headers={"x-test": "yes"})


def test_whole_answer() -> None:
    """All chunks arrive in order."""

    async def read() -> list[str]:
        async with client() as http, http.stream("GET", "/count") as answer:
            return [line async for line in answer.aiter_lines()]

    assert asyncio.run(read()) == [str(number) for number in range(1000)]


def test_not_ahead_of_the_reader() -> None:
    """The application waits for a slow reader, so unread chunks do not fill the memory."""

    async def read() -> int:
        async with client() as http, http.stream("GET", "/count") as answer:
            await anext(answer.aiter_lines())
            await asyncio.sleep(0)
            return len(made)

    assert asyncio.run(read()) <= 3 * AHEAD


def test_reader_goes() -> None:
    """If the reader leaves, the application is cancelled."""

    async def read() -> str:
        async with client() as http, http.stream("GET", "/wait") as answer:
            return await anext(answer.aiter_lines())

    assert asyncio.run(read()) == "first"
    assert made == [-1]


def test_request_and_status() -> None:
    """The application gets path, query and headers; the reader gets the status."""

    async def read() -> httpx.Response:
        async with client() as http:
            return await http.get("/echo?a=b%20c")

    answer = asyncio.run(read())
    assert (answer.status_code, answer.text) == (418, "/echo?a=b%20c yes")


def test_defect() -> None:
    """An error of the application reaches the reader, so a partial answer never looks complete."""

    async def read() -> None:
        async with client() as http:
            await http.get("/fail")

    with pytest.raises(ValueError, match="a defect"):
        asyncio.run(read())
