"""Airflow's public REST API, called inside its own process with the caller's credential.

So Airflow's own authorization and validation apply to what our routes do, and no token of a service is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

import httpx
from fastapi import Depends, Request

from ims.api.http.problems import Problem
from ims.api.http.streaming import StreamingTransport

PAGE = 100
# Each call holds a connection of Airflow's pool of fifteen, which others need too.
_AT_ONCE = asyncio.Semaphore(4)
_CREDENTIALS = ("authorization", "cookie")


class AirflowApi:
    """Airflow as the caller of a request may use it."""

    def __init__(self, request: Request) -> None:
        from airflow.api_fastapi.app import cached_app  # at import time the app would import us

        app = cached_app()
        headers = {name: request.headers[name] for name in _CREDENTIALS if name in request.headers}
        url = str(request.base_url.replace(path="/api/v2/"))
        # What the environment says of proxies is not for calls inside of a process, and slow to read.
        given: Any = {"base_url": url, "headers": headers, "trust_env": False}
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), **given)
        self._reader = httpx.AsyncClient(transport=StreamingTransport(app), **given)

    async def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request below `/api/v2`. Raises Problem: Airflow's answer is an error."""
        async with _AT_ONCE:
            answer = await self._client.request(method, path, **arguments)
        if answer.is_success:
            return answer.json() if answer.content else None
        raise _problem(answer)

    async def lines(self, path: str, **arguments: Any) -> AsyncIterator[str]:
        """The lines of a GET's answer while they come. Raises Problem: Airflow's answer is an error."""
        accept = {"Accept": "application/x-ndjson"}
        async with self._reader.stream("GET", path, headers=accept, **arguments) as answer:
            if not answer.is_success:
                await answer.aread()
                raise _problem(answer)
            async for line in answer.aiter_lines():
                yield line

    async def find(self, path: str, **arguments: Any) -> Any | None:
        """GET what may not be there."""
        try:
            return await self.call("GET", path, **arguments)
        except Problem as problem:
            if problem.status == 404:
                return None
            raise

    async def pages(self, path: str, items: str, **query: Any) -> list[dict[str, Any]]:
        """All items of a list that Airflow gives in pages."""
        return await self._all(items, lambda offset: self.call("GET", path, params={**query, **_page("", offset)}))

    async def search(self, path: str, items: str, **body: Any) -> list[dict[str, Any]]:
        """All items that a POST with filters in its body finds in pages."""
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


def _problem(answer: httpx.Response) -> Problem:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError):
        detail = answer.text
    return Problem(answer.status_code, detail if isinstance(detail, str) else str(detail))


AirflowService = Annotated[AirflowApi, Depends(AirflowApi)]
