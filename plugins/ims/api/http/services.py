"""What the routes work with: one of each in the API's process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from threading import RLock
from typing import Annotated, TypeVar

from fastapi import Depends

from ims.records.database import Database
from ims.records.objects import ObjectReferences
from ims.records.shells import Shells
from ims.records.store import Records
from ims.settings import settings
from ims.storage.objects import ObjectStore

Made = TypeVar("Made")
_MAKING = RLock()


def once(make: Callable[[], Made]) -> Callable[[], Made]:
    """Keep what a function makes. Unlike with `cache` alone, a burst of first requests does not make it many times."""
    kept = cache(make)

    @wraps(make)
    def get() -> Made:
        with _MAKING:
            return kept()

    return get


@once
def database() -> Database:
    """The database of records; its schema is migrated at the first call."""
    return Database(settings().records_url)


@once
def records() -> Records:
    """Recipes, images and public keys."""
    return Records(database())


@once
def object_references() -> ObjectReferences:
    """The references of records to objects in S3."""
    return ObjectReferences(database())


@once
def shells() -> Shells:
    """The shells of jobs."""
    return Shells(database())


@once
def object_store() -> ObjectStore:
    """S3. Few attempts: a caller waits."""
    return ObjectStore.from_environment(attempts=3)


ShellsService = Annotated[Shells, Depends(shells)]
RecordsService = Annotated[Records, Depends(records)]
ObjectReferencesService = Annotated[ObjectReferences, Depends(object_references)]
StoreService = Annotated[ObjectStore, Depends(object_store)]
