"""What the routes work with: one of each in the API's process."""

from __future__ import annotations

from functools import cache
from typing import Annotated

from fastapi import Depends

from ims.records.database import Database
from ims.records.store import Records
from ims.settings import settings
from ims.storage.objects import ObjectStore


@cache
def records() -> Records:
    """The records; the database's schema is migrated at the first call."""
    return Records(Database(settings().records_url))


@cache
def object_store() -> ObjectStore:
    """S3. Few attempts: a caller waits."""
    return ObjectStore.from_environment(attempts=3)


RecordsService = Annotated[Records, Depends(records)]
StoreService = Annotated[ObjectStore, Depends(object_store)]
