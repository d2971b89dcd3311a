"""Purging: removing records together with the objects in S3 that only they need.

The record goes last. If S3 fails half-way, the tombstone is still there, and deleting it again resumes the purge.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

from fastapi import Depends
from starlette.concurrency import run_in_threadpool

from ims.api.catalog.links import needed_by
from ims.api.http.schemas import ArtifactLink
from ims.api.http.services import ObjectReferencesService, RecordsService, StoreService
from ims.api.retention.orphans import keep_folder
from ims.api.retention.usage import holds_of_jobs
from ims.errors import InputError, MissingError
from ims.records.models import AnyRecord, Image, ImageObject, PublicKey, Recipe
from ims.settings import settings
from ims.storage.objects import ObjectName


class Purge:
    """Purges records on behalf of the caller of a request."""

    def __init__(
        self,
        records: RecordsService,
        references: ObjectReferencesService,
        store: StoreService,
    ) -> None:
        self._records = records
        self._references = references
        self._store = store

    async def check(self, records: Sequence[AnyRecord]) -> None:
        """Raises HeldError if a running job uses one of the records."""
        (await run_in_threadpool(holds_of_jobs)).check(records)

    async def purge_tombstones(self, tombstones: Sequence[AnyRecord]) -> None:
        """Purge tombstones. Raises HeldError, and purges none, if a running job uses one of them."""
        await self.check(tombstones)
        await run_in_threadpool(self._purge_all, tombstones, remove_objects=True)

    async def purge_records(self, records: Sequence[AnyRecord], *, remove_objects: bool) -> None:
        """Purge living records.

        Raises HeldError if running jobs use some, which stay. Public keys in use become tombstones instead: clients
        of IMS delete a key while its shell is open, and the shell does not need the record.
        """
        await run_in_threadpool(self._delete_all, records)
        # Jobs that start from now on cannot use the records, so no use is overlooked.
        holds = await run_in_threadpool(holds_of_jobs)
        free = [record for record in records if not holds.strict(record)]
        held = [record for record in records if holds.strict(record) and not isinstance(record, PublicKey)]
        await run_in_threadpool(self._purge_all, free, remove_objects=remove_objects)
        await run_in_threadpool(self._undelete_all, held)
        holds.check(held)

    def purge_tombstone(self, tombstone: AnyRecord) -> bool:
        """Purge a tombstone that no job uses. Returns False if it is no tombstone any more."""
        try:
            self._purge(tombstone)
        except MissingError:
            return False
        return True

    def referenced_objects(self) -> set[str]:
        """The addresses of all objects that a record or tombstone refers to."""
        self._store_missing_references()
        return self._references.all()

    def objects_of(self, record: AnyRecord) -> list[str]:
        """The addresses of the objects that a purge of the record would remove."""
        return self._references.exclusive_to(record, self._own_objects(record))

    def _delete_all(self, records: Sequence[AnyRecord]) -> None:
        for record in records:
            self._records.delete(_kind(record), record.id)

    def _undelete_all(self, records: Sequence[AnyRecord]) -> None:
        for record in records:
            self._records.undelete(_kind(record), record.id)

    def _purge_all(self, tombstones: Sequence[AnyRecord], *, remove_objects: bool) -> None:
        for tombstone in tombstones:
            if remove_objects:
                self._purge(tombstone)
            else:
                self._forget(tombstone)

    def _purge(self, tombstone: AnyRecord) -> None:
        """Remove a tombstone and its objects."""
        kind = _kind(tombstone)
        for path in self._records.begin_purge(kind, tombstone.id, self._own_objects(tombstone)):
            with suppress(MissingError):  # the bucket is gone
                self._store.delete(ObjectName.parse(path))
        self._records.finish_purge(kind, tombstone.id)

    def _forget(self, tombstone: AnyRecord) -> None:
        """Remove a tombstone and mark its objects to be kept."""
        if (path := getattr(tombstone, "link_path", None)) is not None:
            keep_folder(self._store, path)
        self._records.finish_purge(_kind(tombstone), tombstone.id)

    def _own_objects(self, record: AnyRecord) -> set[str]:
        """The objects that belong to a record: in the bucket of its kind, and of an image in the manifest's folder."""
        if isinstance(record, PublicKey) or record.link_path is None:
            return set()
        link = ObjectName.parse(record.link_path)
        if isinstance(record, Recipe):
            return {record.link_path} if link.bucket == settings().recipes_bucket else set()
        if link.bucket != settings().images_bucket:
            return set()
        self._store_missing_references()
        folder, slash, _ = record.link_path.rpartition("/")
        inside = {
            path for path in self._references.of_image(record) if "/" in link.key and path.startswith(folder + slash)
        }
        return inside | {record.link_path}

    def _store_missing_references(self) -> None:
        """Read the manifests of images that an early version registered without storing their objects."""
        for image in self._references.images_without_objects():
            assert image.link is not None
            try:
                paths = needed_by(self._store, ArtifactLink(**image.link))
            except (InputError, MissingError):
                paths = {image.link["path"]}

            def set_objects(record: Image, paths: set[str] = paths) -> None:
                record.objects = [ImageObject(path=path) for path in sorted(paths)]

            self._records.change(Image, image.id, set_objects, deleted=image.deleted is not None)


def _kind(record: AnyRecord) -> type[Any]:
    return type(record)


PurgeService = Annotated[Purge, Depends()]
