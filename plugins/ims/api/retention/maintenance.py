"""`/maintenance`: what nobody needs goes. IMS has no such path; the workflow `image_maintenance` calls it every day."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from ims.api.http.auth import may_delete, may_read
from ims.api.http.schemas import RequestBody
from ims.api.http.services import RecordsService, RemovalsService, StoreService
from ims.api.retention.orphans import Stored, look
from ims.api.retention.purge import AnyRecord, PurgeService
from ims.api.retention.usage import images_in_making, running_jobs, used_by
from ims.api.runs.airflow import AirflowService
from ims.cleaning import Finding, summary
from ims.errors import MissingError
from ims.jobs import job_id
from ims.records.models import Image, PublicKey, Recipe, RecordType
from ims.records.retention import Rules, expired, retired
from ims.records.selection import Selection
from ims.records.store import NAMES
from ims.settings import settings
from ims.storage.objects import ObjectName, UnfinishedUpload

router = APIRouter(prefix="/maintenance", tags=["maintenance"])


class MaintenanceIn(RequestBody):
    """`dry_run` only says what would go. `orphan_hours` counts instead of the setting; 0 spares no fresh upload."""

    dry_run: bool
    orphan_hours: Annotated[int, Field(ge=0, le=876000)] | None = None


class Freed(BaseModel):
    """Things of one kind that would go, or went: how many, how many bytes they take, and the first thousand of them."""

    kind: str
    count: int
    bytes: int
    items: list[str]


class MaintenanceOut(BaseModel):
    """What would go or went."""

    dry_run: bool
    freed: list[Freed]


class RunningOut(BaseModel):
    """Ids of the jobs that have not ended: nothing of theirs is left behind."""

    jobs: list[str]


class Maintenance:
    """Looks for what nobody needs: records and objects."""

    def __init__(
        self, records: RecordsService, removals: RemovalsService, store: StoreService, purge: PurgeService
    ) -> None:
        self._records = records
        self._removals = removals
        self._store = store
        self._purge = purge

    def look(self) -> Stored:
        """What is in S3."""
        return look(self._store)

    def find(
        self, stored: Stored, used: Collection[str], making: Collection[str], now: datetime, hours: int
    ) -> list[Finding]:
        """What can go. `stored` was looked at before running jobs were asked what they use and make, and only after
        that records are read: so an object is seen to be a job's or, when the job has ended, a record's.

        `used` are ids and addresses, `making` ids of images; `hours` is how old orphans are at least.
        """
        until = now - timedelta(hours=hours)
        named = self._purge.named() | set(used)
        owners = self._removals.ids() | set(making)
        orphans = stored.orphans(named, owners, until)
        interrupted = stored.interrupted(owners, until)
        return [
            *self._records_to_go(stored.sizes(), used, now),
            *(Finding("objects", str(item.name), item.size, partial(self._delete, item.name)) for item in orphans),
            *(Finding("uploads", str(item.name), self._size(item), partial(self._abort, item)) for item in interrupted),
        ]

    def _records_to_go(self, sizes: Mapping[str, int], used: Collection[str], now: datetime) -> Iterator[Finding]:
        own = settings()
        rules = Rules(
            own.retention_keep_last, own.retention_keep_days, own.retention_tombstone_days, own.retention_all_images
        )
        recipes, images, keys = self._all(Recipe), self._all(Image), self._all(PublicKey)
        for image in retired(images, recipes, used, now, rules):
            yield Finding("images", image.id, 0, partial(self._records.retire, image.id))
        all_records: list[AnyRecord] = [*recipes, *images, *keys]
        for record in expired(all_records, images, used, now, rules):
            size = sum(sizes.get(path, 0) for path in self._purge.objects(record))
            yield Finding(f"deleted {NAMES[type(record)]}s", record.id, size, partial(self._purge.remove, record))

    def _all(self, kind: type[RecordType]) -> list[RecordType]:
        """The records of a kind, tombstones too."""
        return self._records.list(kind) + self._records.list(kind, Selection(deleted=True))

    def _delete(self, name: ObjectName) -> bool:
        if self._removals.is_named(str(name)):
            return False
        self._store.delete(name)
        return True

    def _abort(self, upload: UnfinishedUpload) -> bool:
        with suppress(MissingError):  # it was finished, or given up
            self._store.abort(upload)
            return True
        return False

    def _size(self, upload: UnfinishedUpload) -> int:
        with suppress(MissingError):
            return self._store.parts_size(upload)
        return 0


MaintenanceService = Annotated[Maintenance, Depends()]


@router.get("", dependencies=[may_read()], response_model=RunningOut)
async def running(airflow: AirflowService) -> RunningOut:
    """Which jobs are at work, so that nothing of theirs is cleaned up."""
    return RunningOut(jobs=sorted(job_id(run["dag_run_id"]) for run in await running_jobs(airflow)))


@router.post("", dependencies=[may_delete()], response_model=MaintenanceOut)
async def clean_up(body: MaintenanceIn, airflow: AirflowService, maintenance: MaintenanceService) -> MaintenanceOut:
    """Delete images that need not stay, remove for ever what was deleted long ago, and objects that no record names."""
    stored = await run_in_threadpool(maintenance.look)
    runs = await running_jobs(airflow)
    used, making = used_by(runs), await images_in_making(airflow, runs)
    hours = settings().orphan_hours if body.orphan_hours is None else body.orphan_hours
    found = await run_in_threadpool(maintenance.find, stored, used, making, datetime.now(UTC), hours)
    if not body.dry_run:
        found = await run_in_threadpool(lambda: [item for item in found if item.remove()])
    return MaintenanceOut(dry_run=body.dry_run, freed=[Freed(**item) for item in summary(found)])
