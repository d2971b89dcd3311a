"""Airflow's middleware for the cookie of its UI."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from airflow.api_fastapi.auth.middlewares import refresh_token
from airflow.api_fastapi.auth.middlewares.refresh_token import JWTRefreshMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from ims.api.http.refresh import skip_without_cookie


class Refreshed(Exception):
    """The middleware has read the cookie."""


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the number of tasks that are running."""
    await PlainTextResponse(str(len(asyncio.all_tasks())))(scope, receive, send)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """A client of an application behind the middleware."""

    async def resolve(token: str) -> Any:
        raise Refreshed(token)

    monkeypatch.setattr(JWTRefreshMiddleware, "__call__", JWTRefreshMiddleware.__call__)
    monkeypatch.setattr(refresh_token, "resolve_user_from_token", resolve)
    skip_without_cookie()
    return TestClient(JWTRefreshMiddleware(application))


def test_request_without_cookie(client: TestClient) -> None:
    """A request without a cookie passes, with whatever token it carries, in the task of the server."""
    direct = TestClient(application).get("/").text
    assert client.get("/", headers={"Authorization": "Bearer x"}).text == direct


def test_request_with_cookie(client: TestClient) -> None:
    """The middleware still checks the cookie, whatever token the request carries."""
    for headers in ({}, {"Authorization": "Bearer x"}):
        with pytest.raises(Refreshed, match="stale"):
            client.get("/", headers={"Cookie": "a=b; _token=stale", **headers})


def test_airflow_reads_the_cookie_only() -> None:
    """What Airflow's middleware does without the cookie: nothing. If this fails, `skip_without_cookie` must go."""

    async def run() -> None:
        request, passed = Request({"type": "http", "headers": [(b"authorization", b"Bearer x")]}), PlainTextResponse("")

        async def call_next(given: Request) -> PlainTextResponse:
            assert given is request
            return passed

        assert await JWTRefreshMiddleware(application).dispatch(request, call_next) is passed
        assert "state" not in request.scope
        assert "set-cookie" not in passed.headers

    asyncio.run(run())
