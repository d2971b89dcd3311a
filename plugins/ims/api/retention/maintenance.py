"""`/maintenance`: the clean-up of records and objects. IMS has no such path; `image_maintenance` calls it every day."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from ims.api.http.auth import may_delete, may_read
from ims.api.http.schemas import RequestBody
from ims.api.http.services import AuditService, ObjectReferencesService, RecordsService, StoreService
from ims.api.retention.orphans import Listing, list_objects
from ims.api.retention.purge import PurgeService
from ims.api.retention.usage import used_by
from ims.api.runs.every_run import images_in_progress, unfinished_runs
from ims.cleaning import NAMED_FINDINGS, Finding, remove_all, summary
from ims.errors import ImsError, MissingError
from ims.jobs import workspace_id
from ims.records.audit import KINDS
from ims.records.holds import Holds
from ims.records.lineage import replay_sources
from ims.records.models import AnyRecord, Image, PublicKey, Recipe, RecordType
from ims.records.retention import Rules, expired_images, expired_tombstones
from ims.records.selection import Selection
from ims.settings import settings
from ims.storage.objects import ObjectName, UnfinishedUpload

router = APIRouter(prefix="/maintenance", tags=["maintenance"])


class MaintenanceIn(RequestBody):
    """With `dry_run`, nothing is removed. `orphan_hours` overrides the setting; with 0, orphans of any age go."""

    dry_run: bool
    orphan_hours: Annotated[int, Field(ge=0, le=876000)] | None = None


class Freed(BaseModel):
    """What was removed, or would be, of one kind: the number, the size in bytes, and the first thousand names."""

    kind: str
    count: int
    bytes: int
    items: list[str]


class MaintenanceOut(BaseModel):
    """What was removed, or would be, by kind. `failed` names what could not be removed, with the reasons."""

    dry_run: bool
    freed: list[Freed]
    failed: list[str]


class RunningOut(BaseModel):
    """The jobs, plans and nights that have not ended: ids, and ids of the workspaces that the clean-up skips."""

    jobs: list[str]
    workspaces: list[str]


@dataclass(frozen=True)
class Usage:
    """What running jobs use and create: ids of records and addresses of objects by job; ids of new images."""

    jobs: Mapping[str, str]
    new_images: Collection[str]


class Maintenance:
    """Finds the records to expire or purge, and the orphans in S3."""

    def __init__(
        self,
        records: RecordsService,
        references: ObjectReferencesService,
        store: StoreService,
        purge: PurgeService,
        audit: AuditService,
    ) -> None:
        self._records = records
        self._references = references
        self._store = store
        self._purge = purge
        self._audit = audit

    def list_objects(self) -> Listing:
        """Lists the objects and uploads in S3."""
        return list_objects(self._store)

    def find(self, listing: Listing, usage: Usage, now: datetime, orphan_hours: int) -> list[Finding]:
        """Everything that the clean-up may remove.

        The order of the three looks matters: first S3 (`listing`), then running jobs (`usage`), then, here, records. A
        job that ends in between has registered its image by then, so an object is always seen to belong to the job
        or to the record.
        """
        records = self._records_to_remove(listing.sizes(), usage, now)
        return [*records, *self._orphans(listing, usage, now, orphan_hours), *self._old_audit_entries(now)]

    def _orphans(self, listing: Listing, usage: Usage, now: datetime, orphan_hours: int) -> Iterator[Finding]:
        youngest = now - timedelta(hours=orphan_hours)
        referenced = self._purge.referenced_objects() | set(usage.jobs)
        owners = self._references.owner_ids() | set(usage.new_images)
        for item in listing.orphans(referenced, owners, youngest):
            yield Finding("objects", str(item.name), item.size, partial(self._delete_object, item.name))
        for upload in listing.abandoned_uploads(owners, youngest):
            yield Finding("uploads", str(upload.name), self._size(upload), partial(self._abort_upload, upload))

    def _records_to_remove(self, sizes: Mapping[str, int], usage: Usage, now: datetime) -> Iterator[Finding]:
        recipes, images, keys = self._all(Recipe), self._all(Image), self._all(PublicKey)
        sources = {image.source_recipe_id for image in images}
        holds, rules = Holds(usage.jobs, sources, replay_sources(images)), _rules()
        for image in expired_images(images, recipes, holds, now, rules):
            yield Finding("images", image.id, 0, partial(self._records.expire, image.id))
        records: Iterable[AnyRecord] = [*recipes, *images, *keys]
        for record in expired_tombstones(records, holds, now, rules):
            remove = partial(self._purge.purge_tombstone, record)
            yield Finding(f"deleted {KINDS[type(record)]}s", record.id, self._size_of(record, sizes), remove)

    def _old_audit_entries(self, now: datetime) -> Iterator[Finding]:
        oldest = now - timedelta(days=settings().audit_days)
        if settings().audit_days and self._audit.has_older(oldest):
            yield Finding("audit entries", f"before {oldest:%Y-%m-%d}", 0, partial(self._audit.remove_older, oldest))

    def _size_of(self, record: AnyRecord, sizes: Mapping[str, int]) -> int:
        """The size of the objects of a record; 0 if that cannot be found out. Then removing it fails, too."""
        with suppress(ImsError):
            return sum(sizes.get(path, 0) for path in self._purge.objects_of(record))
        return 0

    def _all(self, kind: type[RecordType]) -> list[RecordType]:
        """The records and tombstones of a kind."""
        return self._records.list(kind) + self._records.list(kind, Selection(deleted=True))

    def _delete_object(self, name: ObjectName) -> bool:
        if self._references.contains(str(name)):
            return False
        self._store.delete(name)
        return True

    def _abort_upload(self, upload: UnfinishedUpload) -> bool:
        with suppress(MissingError):  # the upload was completed or aborted since
            self._store.abort(upload)
            return True
        return False

    def _size(self, upload: UnfinishedUpload) -> int:
        with suppress(MissingError):
            return self._store.parts_size(upload)
        return 0


def _rules() -> Rules:
    own = settings()
    return Rules(
        own.retention_keep_last, own.retention_keep_days, own.retention_tombstone_days, own.retention_all_images
    )


MaintenanceService = Annotated[Maintenance, Depends()]


@router.get("", dependencies=[may_read()], response_model=RunningOut)
def list_running_jobs() -> RunningOut:
    """List the jobs that have not ended, whose workspaces and shells the clean-up must skip."""
    runs = unfinished_runs()
    workspaces = sorted(workspace_id(run.dag_id, run.run_id) for run in runs)
    return RunningOut(jobs=sorted(run.job_id for run in runs), workspaces=workspaces)


@router.post("", dependencies=[may_delete()], response_model=MaintenanceOut)
def clean_up(body: MaintenanceIn, maintenance: MaintenanceService) -> MaintenanceOut:
    """Expire images, purge old tombstones, and remove objects and uploads that no record refers to."""
    listing = maintenance.list_objects()
    runs = unfinished_runs()
    usage = Usage(used_by(runs), images_in_progress(runs))
    hours = settings().orphan_hours if body.orphan_hours is None else body.orphan_hours
    found = maintenance.find(listing, usage, datetime.now(UTC), hours)
    failed: list[str] = []
    if not body.dry_run:
        found, failed = remove_all(found)
    freed = [Freed(**item) for item in summary(found)]
    return MaintenanceOut(dry_run=body.dry_run, freed=freed, failed=failed[:NAMED_FINDINGS])
