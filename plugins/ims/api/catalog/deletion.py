"""Deleting records as v3 does: a record becomes a tombstone, which can be undeleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

from fastapi import APIRouter, Depends, Request, Response

from ims.api.errors import ConflictError
from ims.api.http.auth import may_read, may_write
from ims.api.http.deletes import DELETES, Doomed, DryRun, gone, would_delete
from ims.api.http.lists import PAGE, page
from ims.api.http.schemas import Id, PatchBody, RecordOut
from ims.api.http.services import RecordsService
from ims.records.models import RecordType
from ims.records.selection import Selection
from ims.records.store import LinkTakenError


class Undelete(PatchBody):
    """What can be done with what was deleted."""

    operation: Literal["undelete"]


def delete_routes(kind: type[RecordType]) -> APIRouter:
    """DELETE of records of a kind, which leaves tombstones."""
    router = APIRouter()

    @router.delete("", **DELETES)
    def delete_all(records: RecordsService, dry_run: DryRun = False) -> Response:
        """Delete all. They can be undeleted."""
        if dry_run:
            return would_delete(Doomed(id=record.id, name=record.name) for record in records.list(kind))
        records.delete_all(kind)
        return gone()

    @router.delete("/{id}", **DELETES)
    def delete(identity: Id, records: RecordsService, dry_run: DryRun = False) -> Response:
        """Delete one. It can be undeleted."""
        if dry_run:
            return would_delete([Doomed(id=identity, name=records.get(kind, identity).name)])
        records.delete(kind, identity)
        return gone()

    return router


def tombstone_routes(kind: type[RecordType], out: type[RecordOut], selected: Callable[..., Selection]) -> APIRouter:
    """Listing and undeleting the tombstones of a kind."""
    router = APIRouter()

    wanted: Any = Depends(selected)

    @router.get("", dependencies=[may_read()], response_model=list[out], responses=PAGE)  # type: ignore[valid-type]
    def list_deleted(
        request: Request, response: Response, records: RecordsService, selection: Selection = wanted
    ) -> Any:
        """What was deleted, in the order of making."""
        return page(request, response, records, kind, out, replace(selection, deleted=True))

    @router.get("/{id}", dependencies=[may_read()], response_model=out)
    def get_deleted(identity: Id, records: RecordsService) -> Any:
        """One that was deleted."""
        return records.get(kind, identity, deleted=True)

    @router.patch("", status_code=204, dependencies=[may_write()], response_class=Response)
    def undelete_all(body: Undelete, records: RecordsService) -> None:
        """Undelete all: they are again as they were."""
        with _taken_is_conflict():
            records.undelete_all(kind)

    @router.patch("/{id}", status_code=204, dependencies=[may_write()], response_class=Response)
    def undelete(identity: Id, body: Undelete, records: RecordsService) -> None:
        """Undelete one: it is again as it was."""
        with _taken_is_conflict():
            records.undelete(kind, identity)

    return router


@contextmanager
def _taken_is_conflict() -> Iterator[None]:
    try:
        yield
    except LinkTakenError as error:
        raise ConflictError(str(error)) from None
