"""The parameter `dry_run` and the answers of all DELETE requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from ims.api.http.auth import may_delete

DryRun = Annotated[bool, Query(description="only list what would be deleted")]


class PlannedDeletion(BaseModel):
    """A record or job that would be deleted, and the objects in S3 that would be removed with it."""

    id: str
    name: str | None
    objects: list[str] = []


class WouldDelete(BaseModel):
    """The answer to `dry_run=true`. Nothing was deleted."""

    would_delete: list[PlannedDeletion]


DELETES: dict[str, Any] = {
    "status_code": 204,
    "dependencies": [may_delete()],
    "response_class": Response,
    "responses": {200: {"model": WouldDelete, "description": "With dry_run"}},
}


def would_delete(planned: Iterable[PlannedDeletion]) -> JSONResponse:
    """Returns the answer to `dry_run=true`."""
    return JSONResponse(WouldDelete(would_delete=list(planned)).model_dump())


def no_content() -> Response:
    """Returns the answer to a deletion."""
    return Response(status_code=204)
