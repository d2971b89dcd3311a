"""Removing tombstones for ever, and which objects go with them."""

from __future__ import annotations

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from ims.records.database import Database, lock_links
from ims.records.models import Image, ImageObject, PublicKey, Recipe, RecordType
from ims.records.store import by_id, expect

_NAMING = (Recipe.link_path, Image.link_path, ImageObject.path)
"""Where records name objects."""


class Removals:
    """The tombstones of a database. Each call is a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._all_known = False

    def unneeded(self, record: PublicKey | Recipe | Image, objects: set[str]) -> list[str]:
        """Which of the objects no other record needs, neither a living one nor a tombstone."""
        with self._database.reading() as session:
            return sorted(objects - _needed(session, record, objects))

    def begin_purge(self, kind: type[RecordType], identity: str, objects: set[str]) -> list[str]:
        """Which of the objects go with a tombstone. From now on it cannot come back, and no new record can link them.

        Raises MissingError: there is no tombstone with that id.
        """
        with self._database.session() as session:
            lock_links(session)
            record = expect(by_id(session, kind, identity, lock=True), kind, identity, True)
            record.purging = True
            return sorted(objects - _needed(session, record, objects))

    def forget(self, kind: type[RecordType], identity: str) -> None:
        """Remove a tombstone for ever. One that is gone already is no error."""
        with self._database.session() as session:
            record = by_id(session, kind, identity)
            if record is not None and record.deleted is not None:
                session.delete(record)

    def objects(self, image: Image) -> set[str]:
        """Addresses of the objects that an image needs, as far as is known."""
        with self._database.reading() as session:
            return set(session.scalars(select(ImageObject.path).where(ImageObject.image_id == image.id)))

    def named(self) -> set[str]:
        """Addresses of all the objects that records name, tombstones too."""
        with self._database.reading() as session:
            return {path for column in _NAMING for path in session.scalars(select(column)) if path is not None}

    def is_named(self, path: str) -> bool:
        """Whether a record names the object, a tombstone too."""
        with self._database.reading() as session:
            return any(session.scalars(select(column).where(column == path)).first() for column in _NAMING)

    def ids(self) -> set[str]:
        """Ids of all recipes and images, tombstones too."""
        with self._database.reading() as session:
            return {identity for kind in (Recipe, Image) for identity in session.scalars(select(kind.id))}

    def images_of_unknown_objects(self) -> list[Image]:
        """Images with a link, tombstones too, that were registered before objects were remembered."""
        if self._all_known:
            return []
        known = exists().where(ImageObject.image_id == Image.id)
        with self._database.reading() as session:
            unknown = list(session.scalars(select(Image).where(Image.link_path.is_not(None), ~known)))
        self._all_known = not unknown  # of a new image they are remembered at once
        return unknown


def _needed(session: Session, record: PublicKey | Recipe | Image, paths: set[str]) -> set[str | None]:
    """Which of the objects are needed by another record, a tombstone too, that is not being removed itself."""
    queries = [
        select(Recipe.link_path).where(Recipe.link_path.in_(paths), Recipe.id != record.id, ~Recipe.purging),
        select(Image.link_path).where(Image.link_path.in_(paths), Image.id != record.id, ~Image.purging),
        select(ImageObject.path).join(Image).where(ImageObject.path.in_(paths), Image.id != record.id, ~Image.purging),
    ]
    return {path for query in queries for path in session.scalars(query)}
