"""Deleting records: v3 leaves a tombstone that can come back, v2 and `/deleted` remove for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from ims.api.access import may_delete, may_read, may_write
from ims.api.lists import PAGE, page
from ims.api.problems import Problem
from ims.api.purge import Purge, PurgeService
from ims.api.schemas import Id, PatchBody, RecordOut
from ims.api.services import RecordsService
from ims.records.models import PublicKey, RecordType
from ims.records.selection import Selection
from ims.records.store import LinkTakenError, Records

DryRun = Annotated[bool, Query(description="only say what would be deleted")]
Cascade = Annotated[bool, Query(description="remove the objects in S3 too")]


class Doomed(BaseModel):
    """What would be deleted: a record or job, and the objects in S3 that go with it."""

    id: str
    name: str | None
    objects: list[str] = []


class WouldDelete(BaseModel):
    """The answer to `dry_run=true`: nothing was deleted."""

    would_delete: list[Doomed]


class Undelete(PatchBody):
    """What can be done with what was deleted."""

    operation: Literal["undelete"]


DELETES: dict[str, Any] = {
    "status_code": 204,
    "dependencies": [may_delete()],
    "response_class": Response,
    "responses": {200: {"model": WouldDelete, "description": "With dry_run"}},
}


def would_delete(doomed: Iterable[Doomed]) -> JSONResponse:
    """The answer to `dry_run=true`."""
    return JSONResponse(WouldDelete(would_delete=list(doomed)).model_dump())


def gone() -> Response:
    """The answer to a deletion."""
    return Response(status_code=204)


def soft(kind: type[RecordType]) -> APIRouter:
    """DELETE as v3 has it."""
    router = APIRouter()

    @router.delete("", **DELETES)
    def delete_all(records: RecordsService, dry_run: DryRun = False) -> Response:
        """Delete all. They can be undeleted."""
        if dry_run:
            return _doomed(records.list(kind))
        records.delete_all(kind)
        return gone()

    @router.delete("/{id}", **DELETES)
    def delete(identity: Id, records: RecordsService, dry_run: DryRun = False) -> Response:
        """Delete one. It can be undeleted."""
        if dry_run:
            return _doomed([records.get(kind, identity)])
        records.delete(kind, identity)
        return gone()

    return router


def hard(kind: type[RecordType]) -> APIRouter:
    """DELETE as v2 has it. What a running job works with is kept."""
    router = APIRouter()

    @router.delete("", **DELETES)
    async def delete_all(
        records: RecordsService, purge: PurgeService, cascade: Cascade = True, dry_run: DryRun = False
    ) -> Response:
        """Delete all for ever, with their objects in S3."""
        return await delete(await run_in_threadpool(records.list, kind), purge, cascade, dry_run)

    @router.delete("/{id}", **DELETES)
    async def delete_one(
        identity: Id, records: RecordsService, purge: PurgeService, cascade: Cascade = True, dry_run: DryRun = False
    ) -> Response:
        """Delete one for ever, with its objects in S3."""
        return await delete([await run_in_threadpool(records.get, kind, identity)], purge, cascade, dry_run)

    async def delete(found: list[RecordType], purge: Purge, cascade: bool, dry_run: bool) -> Response:
        if dry_run:
            await purge.check([record for record in found if not isinstance(record, PublicKey)])
            return await run_in_threadpool(_doomed, found, purge if cascade else None)
        await purge.records(found, cascade=cascade)
        return gone()

    return router


def deleted(path: str, kind: type[RecordType], out: type[RecordOut], selected: Callable[..., Selection]) -> APIRouter:
    """`/deleted/<path>`: what v3 has deleted, of one kind."""
    router = APIRouter(prefix=f"/deleted/{path}", tags=["deleted"])

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

    @router.delete("", **DELETES)
    async def purge_all(records: RecordsService, purge: PurgeService, dry_run: DryRun = False) -> Response:
        """Remove all for ever, with their objects in S3."""
        return await remove(await run_in_threadpool(records.list, kind, Selection(deleted=True)), purge, dry_run)

    @router.delete("/{id}", **DELETES)
    async def purge_one(
        identity: Id, records: RecordsService, purge: PurgeService, dry_run: DryRun = False
    ) -> Response:
        """Remove one for ever, with its objects in S3."""
        return await remove([await run_in_threadpool(_tombstone, records, kind, identity)], purge, dry_run)

    async def remove(found: list[RecordType], purge: Purge, dry_run: bool) -> Response:
        if dry_run:
            await purge.check(found)
            return await run_in_threadpool(_doomed, found, purge)
        await purge.tombstones(found)
        return gone()

    return router


def _tombstone(records: Records, kind: type[RecordType], identity: str) -> RecordType:
    return records.get(kind, identity, deleted=True)


@contextmanager
def _taken_is_conflict() -> Iterator[None]:
    try:
        yield
    except LinkTakenError as error:
        raise Problem(409, str(error)) from None


def _doomed(found: Iterable[Any], purge: Purge | None = None) -> Response:
    """The answer to `dry_run=true`; objects are looked up with `purge`."""
    doomed = [
        Doomed(id=record.id, name=record.name, objects=purge.objects(record) if purge else []) for record in found
    ]
    return would_delete(doomed)
