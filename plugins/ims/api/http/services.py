"""What the routes work with: one object of each kind in the API's process."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Annotated, Generic, TypeVar

from fastapi import Depends
from starlette.concurrency import run_in_threadpool

from ims.records.audit import AuditLog
from ims.records.database import Database
from ims.records.objects import ObjectReferences
from ims.records.shells import Shells
from ims.records.store import Records
from ims.settings import settings
from ims.storage.objects import ObjectStore

Made = TypeVar("Made")


class Single(Generic[Made]):
    """Makes an object at the first call and returns the same one from then on, to all threads."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._lock = Lock()
        self._made: Made | None = None

    def __call__(self) -> Made:
        """Returns the object."""
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    async def provide(self) -> Made:
        """Returns the object, as a dependency of routes: FastAPI would call a plain function in a thread each time."""
        return self._made if self._made is not None else await run_in_threadpool(self)


@Single
def database() -> Database:
    """The database of records; its schema is migrated at the first call."""
    return Database(settings().records_url)


@Single
def records() -> Records:
    """Recipes, images and public keys."""
    return Records(database())


@Single
def object_references() -> ObjectReferences:
    """The references of records to objects in S3."""
    return ObjectReferences(database())


@Single
def shells() -> Shells:
    """The shells of jobs."""
    return Shells(database())


@Single
def audit_log() -> AuditLog:
    """The audit log."""
    return AuditLog(database())


@Single
def object_store() -> ObjectStore:
    """S3. Retries little, because the caller is waiting."""
    return ObjectStore.from_environment(attempts=3)


ShellsService = Annotated[Shells, Depends(shells.provide)]
AuditService = Annotated[AuditLog, Depends(audit_log.provide)]
RecordsService = Annotated[Records, Depends(records.provide)]
ObjectReferencesService = Annotated[ObjectReferences, Depends(object_references.provide)]
StoreService = Annotated[ObjectStore, Depends(object_store.provide)]
