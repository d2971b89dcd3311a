"""Airflow's public REST API, called inside its own process with the caller's credential.

So Airflow's own authorization and validation apply to what our routes do, and no token of a service is kept.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import httpx
from fastapi import Depends, Request

from ims.api.problems import Problem

PAGE = 100
# Each call holds a connection of Airflow's pool of fifteen, which others need too.
_AT_ONCE = asyncio.Semaphore(4)
_CREDENTIALS = ("authorization", "cookie")


class AirflowApi:
    """Airflow as the caller of a request may use it."""

    def __init__(self, request: Request) -> None:
        from airflow.api_fastapi.app import cached_app  # at import time the app would import us

        headers = {name: request.headers[name] for name in _CREDENTIALS if name in request.headers}
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=cached_app()),
            base_url=str(request.base_url.replace(path="/api/v2/")),
            headers=headers,
        )

    async def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request below `/api/v2`. Raises Problem: Airflow's answer is an error."""
        async with _AT_ONCE:
            answer = await self._client.request(method, path, **arguments)
        if answer.is_success:
            return answer.json() if answer.content else None
        try:
            detail = answer.json()["detail"]
        except (ValueError, KeyError):
            detail = answer.text
        raise Problem(answer.status_code, detail if isinstance(detail, str) else str(detail))

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
        found: list[dict[str, Any]] = []
        while True:
            page = await self.call("GET", path, params={**query, "limit": PAGE, "offset": len(found)})
            found += page[items]
            if not page[items] or len(found) >= page["total_entries"]:
                return found

    async def search(self, path: str, items: str, **body: Any) -> list[dict[str, Any]]:
        """All items that a POST with filters in its body finds in pages."""
        found: list[dict[str, Any]] = []
        while True:
            page = await self.call("POST", path, json={**body, "page_limit": PAGE, "page_offset": len(found)})
            found += page[items]
            if not page[items] or len(found) >= page["total_entries"]:
                return found


AirflowService = Annotated[AirflowApi, Depends(AirflowApi)]
