"""Deleting records as version 3 does: a record becomes a tombstone, which can be undeleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

from fastapi import APIRouter, Depends, Request, Response

from ims.api.catalog.documents import Documents
from ims.api.catalog.listing import page
from ims.api.errors import ConflictError
from ims.api.http.auth import may_read, may_write
from ims.api.http.deletes import DELETES, DryRun, PlannedDeletion, no_content, would_delete
from ims.api.http.lists import PAGE
from ims.api.http.schemas import Id, PatchBody, RecordOut
from ims.api.http.services import RecordsService
from ims.records.models import RecordType
from ims.records.selection import Selection
from ims.records.store import LinkTakenError


class Undelete(PatchBody):
    """The operation on a tombstone."""

    operation: Literal["undelete"]


def delete_routes(kind: type[RecordType]) -> APIRouter:
    """Returns the routes that delete records of a kind and leave tombstones."""
    router = APIRouter()

    @router.delete("", **DELETES)
    def delete_all(records: RecordsService, dry_run: DryRun = False) -> Response:
        """Delete all records. They can be undeleted."""
        if dry_run:
            return would_delete(PlannedDeletion(id=record.id, name=record.name) for record in records.list(kind))
        records.delete_all(kind)
        return no_content()

    @router.delete("/{id}", **DELETES)
    def delete(identity: Id, records: RecordsService, dry_run: DryRun = False) -> Response:
        """Delete a record. It can be undeleted."""
        if dry_run:
            return would_delete([PlannedDeletion(id=identity, name=records.get(kind, identity).name)])
        records.delete(kind, identity)
        return no_content()

    return router


def tombstone_routes(kind: type[RecordType], out: type[RecordOut], selected: Callable[..., Selection]) -> APIRouter:
    """Returns the routes that list and undelete the tombstones of a kind."""
    router = APIRouter()

    documents = Documents(kind, out)
    filters: Any = Depends(selected)

    @router.get("", dependencies=[may_read()], response_model=list[out], responses=PAGE)  # type: ignore[valid-type]
    async def list_deleted(request: Request, records: RecordsService, selection: Selection = filters) -> Response:
        """List the deleted records, oldest first."""
        return await page(request, records, documents, replace(selection, deleted=True))

    @router.get("/{id}", dependencies=[may_read()], response_model=out)
    async def get_deleted(identity: Id, records: RecordsService) -> Response:
        """Get a deleted record."""
        return await documents.get(records, identity, deleted=True)

    @router.patch("", status_code=204, dependencies=[may_write()], response_class=Response)
    def undelete_all(body: Undelete, records: RecordsService) -> None:
        """Undelete all deleted records. They are as they were before."""
        with _taken_is_conflict():
            records.undelete_all(kind)

    @router.patch("/{id}", status_code=204, dependencies=[may_write()], response_class=Response)
    def undelete(identity: Id, body: Undelete, records: RecordsService) -> None:
        """Undelete a deleted record. It is as it was before."""
        with _taken_is_conflict():
            records.undelete(kind, identity)

    return router


@contextmanager
def _taken_is_conflict() -> Iterator[None]:
    try:
        yield
    except LinkTakenError as error:
        raise ConflictError(str(error)) from None
