"""DELETE that cannot be undone: `DELETE` of records in version 2, and of tombstones below `/deleted`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from ims.api.http.deletes import DELETES, DryRun, PlannedDeletion, no_content, would_delete
from ims.api.http.schemas import Id
from ims.api.http.services import RecordsService
from ims.api.retention.purge import Purge, PurgeService
from ims.records.models import PublicKey, RecordType
from ims.records.selection import Selection
from ims.records.store import Records

Cascade = Annotated[bool, Query(description="also remove the objects in S3")]


def hard_delete_routes(kind: type[RecordType]) -> APIRouter:
    """DELETE of version 2, which purges records. Records in use by a running job stay."""
    router = APIRouter()

    @router.delete("", **DELETES)
    async def delete_all(
        records: RecordsService, purge: PurgeService, cascade: Cascade = True, dry_run: DryRun = False
    ) -> Response:
        """Purge all records, with their objects in S3."""
        return await delete(await run_in_threadpool(records.list, kind), purge, cascade, dry_run)

    @router.delete("/{id}", **DELETES)
    async def delete_one(
        identity: Id, records: RecordsService, purge: PurgeService, cascade: Cascade = True, dry_run: DryRun = False
    ) -> Response:
        """Purge one record, with its objects in S3."""
        return await delete([await run_in_threadpool(records.get, kind, identity)], purge, cascade, dry_run)

    async def delete(found: list[RecordType], purge: Purge, cascade: bool, dry_run: bool) -> Response:
        if dry_run:
            await purge.check([record for record in found if not isinstance(record, PublicKey)])
            return await run_in_threadpool(_would_purge, found, purge if cascade else None)
        await purge.purge_records(found, remove_objects=cascade)
        return no_content()

    return router


def purge_routes(kind: type[RecordType]) -> APIRouter:
    """DELETE of tombstones, which purges them."""
    router = APIRouter()

    @router.delete("", **DELETES)
    async def purge_all(records: RecordsService, purge: PurgeService, dry_run: DryRun = False) -> Response:
        """Purge all tombstones, with their objects in S3."""
        return await remove(await run_in_threadpool(records.list, kind, Selection(deleted=True)), purge, dry_run)

    @router.delete("/{id}", **DELETES)
    async def purge_one(
        identity: Id, records: RecordsService, purge: PurgeService, dry_run: DryRun = False
    ) -> Response:
        """Purge one tombstone, with its objects in S3."""
        return await remove([await run_in_threadpool(_tombstone, records, kind, identity)], purge, dry_run)

    async def remove(found: list[RecordType], purge: Purge, dry_run: bool) -> Response:
        if dry_run:
            await purge.check(found)
            return await run_in_threadpool(_would_purge, found, purge)
        await purge.purge_tombstones(found)
        return no_content()

    return router


def _tombstone(records: Records, kind: type[RecordType], identity: str) -> RecordType:
    return records.get(kind, identity, deleted=True)


def _would_purge(found: Iterable[Any], purge: Purge | None) -> Response:
    """The answer to `dry_run=true`. Without `purge`, no objects are removed."""
    planned = [
        PlannedDeletion(id=record.id, name=record.name, objects=purge.objects_of(record) if purge else [])
        for record in found
    ]
    return would_delete(planned)
