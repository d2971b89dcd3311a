"""Airflow's public REST API, called inside its own process with the caller's credential.

Airflow's own authorization and validation therefore apply to what our routes do, and the API needs no token of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any

import httpx
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from fastapi import Depends, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ims.api.errors import AirflowError
from ims.api.http.auth import Permission
from ims.api.http.streaming import StreamingTransport

PAGE = 100
# Each call holds one of the fifteen connections of Airflow's pool, which serves everybody.
_CONCURRENT_CALLS = asyncio.Semaphore(4)
_CREDENTIALS = ("authorization", "cookie")
_INTERNAL = "ims.internal"


def is_internal(scope: Scope) -> bool:
    """Whether a request comes from our own routes. No client can set this key of the ASGI scope."""
    return _INTERNAL in scope


def _internal(app: ASGIApp) -> ASGIApp:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, _INTERNAL: True}, receive, send)

    return call


class AirflowApi:
    """Airflow with the permissions of the caller of a request."""

    def __init__(self, request: Request) -> None:
        from airflow.api_fastapi.app import cached_app  # the app imports this module while it is loading

        self._state = request.state
        app = _internal(cached_app())
        headers = {name: request.headers[name] for name in _CREDENTIALS if name in request.headers}
        url = str(request.base_url.replace(path="/api/v2/"))
        # Proxies from the environment do not apply to calls inside a process, and reading them is slow.
        options: Any = {"base_url": url, "headers": headers, "trust_env": False}
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), **options)
        self._reader = httpx.AsyncClient(transport=StreamingTransport(app), **options)

    async def may_read_results(self, dag_id: str) -> bool:
        """Returns whether Airflow would show the caller the results of the tasks of a workflow."""
        return bool(await self._state.caller.has(Permission("GET", DagAccessEntity.XCOM, dag_id)))

    async def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Sends a request below `/api/v2` and returns the body of the answer. Raises AirflowError."""
        async with _CONCURRENT_CALLS:
            answer = await self._client.request(method, path, **arguments)
        if answer.is_success:
            return answer.json() if answer.content else None
        raise _error(answer)

    async def lines(self, path: str, **arguments: Any) -> AsyncIterator[str]:
        """Yields the lines of the answer to a GET as they arrive. Raises AirflowError."""
        accept = {"Accept": "application/x-ndjson"}
        async with self._reader.stream("GET", path, headers=accept, **arguments) as answer:
            if not answer.is_success:
                await answer.aread()
                raise _error(answer)
            async for line in answer.aiter_lines():
                yield line

    async def find(self, path: str, **arguments: Any) -> Any | None:
        """Returns the body of the answer to a GET, or None if Airflow answers 404. Raises AirflowError."""
        try:
            return await self.call("GET", path, **arguments)
        except AirflowError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def pages(self, path: str, items: str, **query: Any) -> list[dict[str, Any]]:
        """Returns all items of a list that Airflow divides into pages."""
        return await self._all(items, lambda offset: self.call("GET", path, params={**query, **_page("", offset)}))

    async def search(self, path: str, items: str, **body: Any) -> list[dict[str, Any]]:
        """Returns all items that a POST with filters in its body finds."""
        return await self._all(items, lambda offset: self.call("POST", path, json={**body, **_page("page_", offset)}))

    async def _all(self, items: str, fetch: Callable[[int], Awaitable[dict[str, Any]]]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = await fetch(len(found))
            found += page[items]
            if not page[items] or len(found) >= page["total_entries"]:
                return found


def _page(prefix: str, offset: int) -> dict[str, int]:
    return {f"{prefix}limit": PAGE, f"{prefix}offset": offset}


def _error(answer: httpx.Response) -> AirflowError:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError):
        detail = answer.text
    return AirflowError(answer.status_code, detail if isinstance(detail, str) else str(detail))


AirflowService = Annotated[AirflowApi, Depends(AirflowApi)]
