"""What the routes work with: one of each in the API's process."""

from __future__ import annotations

from functools import cache
from typing import Annotated

from fastapi import Depends

from ims.records.database import Database
from ims.records.removal import Removals
from ims.records.shells import Shells
from ims.records.store import Records
from ims.settings import settings
from ims.storage.objects import ObjectStore


@cache
def database() -> Database:
    """The database of the records; its schema is migrated at the first call."""
    return Database(settings().records_url)


@cache
def records() -> Records:
    """Recipes, images and public keys."""
    return Records(database())


@cache
def removals() -> Removals:
    """What was deleted and is to go for ever."""
    return Removals(database())


@cache
def shells() -> Shells:
    """The shells of jobs."""
    return Shells(database())


@cache
def object_store() -> ObjectStore:
    """S3. Few attempts: a caller waits."""
    return ObjectStore.from_environment(attempts=3)


ShellsService = Annotated[Shells, Depends(shells)]
RecordsService = Annotated[Records, Depends(records)]
RemovalsService = Annotated[Removals, Depends(removals)]
StoreService = Annotated[ObjectStore, Depends(object_store)]
