"""Removing records for ever, with the objects in S3 that only they need.

The tombstone goes last: when S3 fails half-way it is still there, and deleting it again goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

from fastapi import Depends
from starlette.concurrency import run_in_threadpool

from ims.api.catalog.links import needed_by
from ims.api.http.schemas import ArtifactLink
from ims.api.http.services import RecordsService, RemovalsService, StoreService
from ims.api.retention.orphans import keep_folder
from ims.api.retention.usage import records_in_use, refuse_in_use
from ims.api.runs.airflow import AirflowService
from ims.errors import InputError, MissingError
from ims.records.models import Image, ImageObject, PublicKey, Recipe
from ims.settings import settings
from ims.storage.objects import ObjectName

AnyRecord = PublicKey | Recipe | Image


class Purge:
    """Removes records of one kind at a time for the caller of a request."""

    def __init__(
        self, airflow: AirflowService, records: RecordsService, removals: RemovalsService, store: StoreService
    ) -> None:
        self._airflow = airflow
        self._removals = removals
        self._records = records
        self._store = store

    async def tombstones(self, found: Sequence[AnyRecord]) -> None:
        """Remove tombstones. Raises Problem: 409, a running job works with one of them; then all stay."""
        await self.check(found)
        await run_in_threadpool(self._purge, found)

    async def records(self, found: Sequence[AnyRecord], *, cascade: bool) -> None:
        """Remove living records, without their objects unless `cascade`.

        Raises Problem: 409, running jobs work with some, which stay. Keys are hidden instead: an open shell needs
        its key no more, and clients of IMS delete it then.
        """
        await run_in_threadpool(self._hide, found)
        # Looked at after they are hidden: a job that comes later finds nothing to work with.
        used = await records_in_use(self._airflow)
        await run_in_threadpool(self._purge, [record for record in found if record.id not in used], cascade)
        kept = [record for record in found if record.id in used and not isinstance(record, PublicKey)]
        await run_in_threadpool(self._show, kept)
        refuse_in_use(used, (record.id for record in kept))

    async def check(self, found: Sequence[AnyRecord]) -> None:
        """Raises Problem: 409, a running job works with one of them."""
        names = (name for record in found for name in (record.id, getattr(record, "link_path", None)) if name)
        refuse_in_use(await records_in_use(self._airflow), names)

    def remove(self, record: AnyRecord) -> bool:
        """Remove a tombstone that no job works with; False if it is none any more."""
        try:
            self._purge([record])
        except MissingError:
            return False
        return True

    def named(self) -> set[str]:
        """Addresses of all the objects that records name, tombstones too."""
        self._learn_objects()
        return self._removals.named()

    def objects(self, record: AnyRecord) -> list[str]:
        """Addresses of the objects that would go with a record."""
        return self._removals.unneeded(record, self._own(record))

    def _hide(self, found: Sequence[AnyRecord]) -> None:
        for record in found:
            self._records.delete(_kind(record), record.id)

    def _show(self, found: Sequence[AnyRecord]) -> None:
        for record in found:
            self._records.undelete(_kind(record), record.id)

    def _purge(self, found: Sequence[AnyRecord], cascade: bool = True) -> None:
        for record in found:
            kind = _kind(record)
            if not cascade and (path := getattr(record, "link_path", None)) is not None:
                keep_folder(self._store, path)
            if cascade:
                for path in self._removals.begin_purge(kind, record.id, self._own(record)):
                    with suppress(MissingError):  # its bucket is gone too
                        self._store.delete(ObjectName.parse(path))
            self._removals.forget(kind, record.id)

    def _own(self, record: AnyRecord) -> set[str]:
        """The objects that are a record's own: nothing outside of its bucket, nor of its manifest's folder."""
        if isinstance(record, PublicKey) or record.link_path is None:
            return set()
        link = ObjectName.parse(record.link_path)
        if isinstance(record, Recipe):
            return {record.link_path} if link.bucket == settings().recipes_bucket else set()
        if link.bucket != settings().images_bucket:
            return set()
        self._learn_objects()
        folder, slash, _ = record.link_path.rpartition("/")
        inside = {
            path for path in self._removals.objects(record) if "/" in link.key and path.startswith(folder + slash)
        }
        return inside | {record.link_path}

    def _learn_objects(self) -> None:
        """Read the manifests of images that were registered before the service remembered what they need."""
        for image in self._removals.images_of_unknown_objects():
            assert image.link is not None
            try:
                paths = needed_by(self._store, ArtifactLink(**image.link))
            except (InputError, MissingError):
                paths = {image.link["path"]}

            def remember(known: Image, paths: set[str] = paths) -> None:
                known.objects = [ImageObject(path=path) for path in sorted(paths)]

            self._records.change(Image, image.id, remember, deleted=image.deleted is not None)


def _kind(record: AnyRecord) -> type[Any]:
    return type(record)


PurgeService = Annotated[Purge, Depends()]
