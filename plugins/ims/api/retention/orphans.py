"""Objects that no record names: what failed jobs, interrupted uploads and forgotten records left in S3.

They are told by folder, `boot-images/<id>/` and `ims/recipes/<id>/`, which has one owner. Other keys are people's own.
A folder stays whole while anything of it is needed or young: an upload goes on for hours, and what lies beside a
manifest may be of use to whoever put it there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from ims.errors import InputError
from ims.settings import settings
from ims.storage.objects import ListedObject, ObjectName, ObjectStore, UnfinishedUpload

KEPT = ".kept"
"""Name of an object that says that its folder stays although no record needs it."""
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
Listed = TypeVar("Listed", ListedObject, UnfinishedUpload)


@dataclass(frozen=True)
class Stored:
    """What was in S3 when it was looked at."""

    objects: list[ListedObject]
    uploads: list[UnfinishedUpload]

    def sizes(self) -> dict[str, int]:
        """The objects' sizes by their addresses."""
        return {str(item.name): item.size for item in self.objects}

    def orphans(self, named: Iterable[str], owners: Collection[str], until: datetime) -> list[ListedObject]:
        """The objects in folders that neither are an owner's, nor have an object in `named`, nor anything younger.

        `owners` are the ids of records and of images that are being made.
        """
        kept = set(_folders(named))
        kept |= {_folder(item.name) for item in self.objects if item.modified > until}
        kept |= {_folder(item.name) for item in self.uploads if item.begun > until}
        kept |= {_folder(item.name) for item in self.objects if item.name.key.endswith(f"/{KEPT}")}
        return list(_outside(self.objects, kept, owners))

    def interrupted(self, owners: Collection[str], until: datetime) -> list[UnfinishedUpload]:
        """The uploads that began before `until`, but for those to an owner's folder."""
        return [
            item
            for item in self.uploads
            if item.begun <= until and ((folder := _folder(item.name)) is None or _owner(folder) not in owners)
        ]


def look(store: ObjectStore) -> Stored:
    """What is in the two buckets."""
    buckets = {settings().recipes_bucket, settings().images_bucket}
    return Stored(
        [item for bucket in buckets for item in store.objects(bucket)],
        [item for bucket in buckets for item in store.uploads(bucket)],
    )


def keep_folder(store: ObjectStore, path: str) -> None:
    """Mark the folder of an object that is to stay without a record."""
    folder = _folder(ObjectName.parse(path))
    if folder is not None:
        store.write_bytes(ObjectName(folder.bucket, f"{folder.key}/{KEPT}"), b"")


def _outside(
    items: Iterable[ListedObject], kept: Collection[ObjectName | None], owners: Collection[str]
) -> Iterator[ListedObject]:
    for item in items:
        folder = _folder(item.name)
        if folder is not None and folder not in kept and _owner(folder) not in owners:
            yield item


def _folder(name: ObjectName) -> ObjectName | None:
    """The folder of one owner that an object is in, if it is in one."""
    for bucket, prefix in ((settings().images_bucket, ""), (settings().recipes_bucket, "recipes/")):
        if name.bucket == bucket and (match := re.match(f"({prefix}{_UUID})/", name.key)):
            return ObjectName(bucket, match[1])
    return None


def _folders(paths: Iterable[str]) -> Iterator[ObjectName | None]:
    for path in paths:
        with suppress(InputError):  # an old manifest may name anything
            yield _folder(ObjectName.parse(path))


def _owner(folder: ObjectName) -> str:
    return folder.key.rpartition("/")[2]
