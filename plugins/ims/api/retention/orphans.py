"""Orphans: objects in S3 that no record refers to, left by failed jobs, abandoned uploads and purged records.

Only folders named after a record can have orphans: `boot-images/<id>/` and `ims/recipes/<id>/`. All other keys belong
to users. A folder is kept whole while anything in it is referenced or young: an upload may take hours, and users may
put files of their own beside a manifest.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from ims.errors import InputError
from ims.settings import settings
from ims.storage.objects import ListedObject, ObjectName, ObjectStore, UnfinishedUpload

KEPT = ".kept"
"""An object with this name keeps its folder although no record refers to it."""
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@dataclass(frozen=True)
class Listing:
    """The objects and the unfinished uploads in S3 at one moment."""

    objects: list[ListedObject]
    uploads: list[UnfinishedUpload]

    def sizes(self) -> dict[str, int]:
        """The sizes of the objects, by address."""
        return {str(item.name): item.size for item in self.objects}

    def orphans(self, referenced: Iterable[str], owners: Collection[str], youngest: datetime) -> list[ListedObject]:
        """The objects in folders without an owner, without a referenced object, and without anything young.

        `referenced` are addresses of objects, `owners` the ids of records and of images in progress. What changed
        after `youngest` is young.
        """
        kept = set(_folders(referenced)) | set(self._young_folders(youngest))
        kept |= {_folder(item.name) for item in self.objects if item.name.key.endswith(f"/{KEPT}")}
        return [
            item
            for item in self.objects
            if (folder := _folder(item.name)) is not None and folder not in kept and _owner(folder) not in owners
        ]

    def abandoned_uploads(self, owners: Collection[str], youngest: datetime) -> list[UnfinishedUpload]:
        """The uploads that began before `youngest`, except those into the folder of an owner."""
        return [
            item
            for item in self.uploads
            if item.begun <= youngest and ((folder := _folder(item.name)) is None or _owner(folder) not in owners)
        ]

    def _young_folders(self, youngest: datetime) -> Iterator[ObjectName | None]:
        yield from (_folder(item.name) for item in self.objects if item.modified > youngest)
        yield from (_folder(item.name) for item in self.uploads if item.begun > youngest)


def list_objects(store: ObjectStore) -> Listing:
    """Lists the bucket of recipes and the bucket of images."""
    buckets = set(settings().buckets)
    return Listing(
        [item for bucket in buckets for item in store.objects(bucket)],
        [item for bucket in buckets for item in store.uploads(bucket)],
    )


def keep_folder(store: ObjectStore, path: str) -> None:
    """Keep the folder of an object although no record refers to it any more."""
    folder = _folder(ObjectName.parse(path))
    if folder is not None:
        store.write_bytes(ObjectName(folder.bucket, f"{folder.key}/{KEPT}"), b"")


def _folder(name: ObjectName) -> ObjectName | None:
    """The folder, named after a record, that contains an object; None if there is no such folder."""
    for bucket, prefix in ((settings().images_bucket, ""), (settings().recipes_bucket, "recipes/")):
        if name.bucket == bucket and (match := re.match(f"({prefix}{_UUID})/", name.key)):
            return ObjectName(bucket, match[1])
    return None


def _folders(paths: Iterable[str]) -> Iterator[ObjectName | None]:
    for path in paths:
        with suppress(InputError):  # an old manifest may contain any text
            yield _folder(ObjectName.parse(path))


def _owner(folder: ObjectName) -> str:
    """The id of the record that a folder is named after."""
    return folder.key.rpartition("/")[2]
