"""Reading and writing records. Each call is a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from ims.errors import InputError, MissingError
from ims.records.database import Database
from ims.records.models import Image, PublicKey, Recipe, RecordType

NAMES: dict[type, str] = {PublicKey: "public key", Recipe: "recipe", Image: "image"}


class LinkTakenError(InputError):
    """Another record links the same object."""


class IdTakenError(InputError):
    """There is, or was, a record with that id."""


class Records:
    """The records of a database. Unless said otherwise, tombstones are not seen."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, kind: type[RecordType]) -> list[RecordType]:
        """All records of a kind, oldest first."""
        with self._database.session() as session:
            living = select(kind).where(kind.deleted.is_(None)).order_by(kind.created, kind.id)
            return list(session.scalars(living))

    def get(self, kind: type[RecordType], identity: str) -> RecordType:
        """One record. Raises MissingError: there is none with that id."""
        with self._database.session() as session:
            return _living(session.get(kind, identity), kind, identity)

    def find(self, kind: type[RecordType], identity: str) -> RecordType | None:
        """One record, a tombstone too; None if there never was one."""
        with self._database.session() as session:
            return session.get(kind, identity)

    def image_of_job(self, job_id: str) -> Image | None:
        """The image that a job made, a tombstone too."""
        with self._database.session() as session:
            return session.scalars(select(Image).where(Image.job_id == job_id)).first()

    def add(self, record: RecordType) -> RecordType:
        """Keep a new record. Raises LinkTakenError: its link is another's; IdTakenError: its id is."""
        try:
            with self._database.session() as session:
                session.add(record)
        except IntegrityError:
            if record.id is not None and self.find(type(record), record.id) is not None:
                raise IdTakenError(f"there is or was another record with the id {record.id}") from None
            raise _taken(record) from None
        return record

    def change(self, kind: type[RecordType], identity: str, change: Callable[[RecordType], None]) -> RecordType:
        """Apply `change` to a record, with nobody else in between. Raises MissingError, LinkTakenError."""
        with self._database.session() as session:
            record = _living(session.get(kind, identity, with_for_update=True), kind, identity)
            change(record)
            path = getattr(record, "link_path", None)  # a failed flush expires it
            try:
                session.flush()
            except IntegrityError:
                raise LinkTakenError(f"{path} is linked by another record") from None
            return record

    def delete(self, kind: type[RecordType], identity: str) -> None:
        """Make a record a tombstone. Raises MissingError: there is none with that id."""
        self.change(kind, identity, _bury)

    def delete_all(self, kind: type[RecordType]) -> None:
        """Make all records of a kind tombstones."""
        for record in self.list(kind):
            self.delete(kind, record.id)


def _bury(record: RecordType) -> None:
    record.deleted = datetime.now(UTC)


def _living(record: RecordType | None, kind: type[RecordType], identity: str) -> RecordType:
    if record is None or record.deleted is not None:
        raise MissingError(f"there is no {NAMES[kind]} with the id {identity}")
    return record


def _taken(record: RecordType) -> LinkTakenError:
    return LinkTakenError(f"{getattr(record, 'link_path', None)} is linked by another record")
