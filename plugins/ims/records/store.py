"""Reading and writing records. Each call is a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ims.errors import InputError, MissingError
from ims.records.database import Database, lock_links
from ims.records.models import Image, ImageObject, ImagePackage, PublicKey, Recipe, RecordType
from ims.records.selection import Selection

NAMES: dict[type, str] = {PublicKey: "public key", Recipe: "recipe", Image: "image"}


class LinkTakenError(InputError):
    """Another record links the same object."""


class IdTakenError(InputError):
    """There is, or was, a record with that id."""


class PurgingError(InputError):
    """The objects of a deleted record are being removed."""


class Records:
    """The records of a database. Unless said otherwise, tombstones are not seen."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, kind: type[RecordType], selection: Selection = Selection()) -> list[RecordType]:  # noqa: B008
        """The records of a kind that are selected, oldest first."""
        with self._database.reading() as session:
            return list(session.scalars(selection.query(kind, session.get_bind().dialect.name)))

    def get(self, kind: type[RecordType], identity: str, *, deleted: bool = False) -> RecordType:
        """One record, or one tombstone. Raises MissingError: there is none with that id."""
        with self._database.reading() as session:
            return expect(by_id(session, kind, identity), kind, identity, deleted)

    def find(self, kind: type[RecordType], identity: str) -> RecordType | None:
        """One record, a tombstone too; None if there never was one."""
        with self._database.reading() as session:
            return by_id(session, kind, identity)

    def find_all(self, kind: type[RecordType], identities: Iterable[str]) -> dict[str, RecordType]:
        """Those of the records that there are, tombstones too, by id."""
        known: Any = kind.id
        wanted = {identity for identity in identities if "\0" not in identity}
        with self._database.reading() as session:
            return {record.id: record for record in session.scalars(select(kind).where(known.in_(wanted)))}

    def newest_image(self, recipe: Recipe) -> Image:
        """The newest image built from the recipe or, since a push makes a new one, from another of its name.

        Raises MissingError: there is none.
        """
        same = select(Recipe.id).where(Recipe.name == recipe.name, Recipe.arch == recipe.arch)
        images = select(Image).where(Image.deleted.is_(None), Image.source_recipe_id.in_(same))
        with self._database.reading() as session:
            image = session.scalars(images.order_by(Image.created.desc(), Image.id.desc()).limit(1)).first()
        if image is None:
            raise MissingError(f"there is no image of the recipe {recipe.name} ({recipe.id})")
        return image

    def packages(self, identity: str) -> Sequence[ImagePackage]:
        """The packages of an image, by name. Raises MissingError: there is no image with that id."""
        order = (ImagePackage.name, ImagePackage.version, ImagePackage.arch)
        with self._database.reading() as session:
            expect(by_id(session, Image, identity), Image, identity)
            query = select(ImagePackage).where(ImagePackage.image_id == identity).order_by(*order)
            return session.scalars(query).all()

    def versions(self, package: str) -> Sequence[tuple[str, str]]:
        """The types and versions in which images, tombstones too, hold a package."""
        query = select(ImagePackage.type, ImagePackage.version).where(ImagePackage.name == package).distinct()
        with self._database.reading() as session:
            return [(kind, version) for kind, version in session.execute(query)]

    def images_of_jobs(self, job_ids: Iterable[str]) -> dict[str, Image]:
        """The images that jobs made, tombstones too, by job."""
        with self._database.reading() as session:
            found = session.scalars(select(Image).where(Image.job_id.in_(set(job_ids))))
            return {str(image.job_id): image for image in found}

    def add(self, record: RecordType) -> RecordType:
        """Keep a new record. Raises LinkTakenError: its link is another's; IdTakenError: its id is."""
        try:
            with self._database.session() as session:
                session.add(record)
                _check_link(session, record)
        except IntegrityError:
            if record.id is not None and self.find(type(record), record.id) is not None:
                raise IdTakenError(f"there is or was another record with the id {record.id}") from None
            raise _taken(getattr(record, "link_path", None)) from None
        return record

    def change(
        self, kind: type[RecordType], identity: str, change: Callable[[RecordType], None], *, deleted: bool = False
    ) -> RecordType:
        """Apply `change` to a record, or a tombstone, with nobody else in between.

        Raises MissingError, LinkTakenError.
        """
        with self._database.session() as session:
            record = expect(by_id(session, kind, identity, lock=True), kind, identity, deleted)
            before = getattr(record, "link_path", None)
            with session.no_autoflush:
                change(record)
            path = getattr(record, "link_path", None)  # a failed flush expires it
            try:
                session.flush()
            except IntegrityError:
                raise _taken(path) from None
            if path != before:
                _check_link(session, record)
            return record

    def delete(self, kind: type[RecordType], identity: str) -> None:
        """Make a record a tombstone. Raises MissingError: there is none with that id."""
        self.change(kind, identity, _bury)

    def retire(self, identity: str) -> bool:
        """Make an image a tombstone unless somebody has pinned or deleted it meanwhile; returns whether it was done."""
        with self._database.session() as session:
            image = by_id(session, Image, identity, lock=True)
            if image is None or image.pinned or image.deleted is not None:
                return False
            _bury(image)
            return True

    def delete_all(self, kind: type[RecordType]) -> None:
        """Make all records of a kind tombstones."""
        table: Any = kind
        with self._database.session() as session:
            session.execute(update(kind).where(table.deleted.is_(None)).values(deleted=datetime.now(UTC)))

    def undelete(self, kind: type[RecordType], identity: str) -> None:
        """Make a tombstone a record again, as it was.

        Raises MissingError, LinkTakenError; PurgingError: its objects are being removed.
        """
        self.change(kind, identity, _restore, deleted=True)

    def undelete_all(self, kind: type[RecordType]) -> None:
        """Make all tombstones of a kind records again, but for those whose objects are being removed.

        Raises LinkTakenError: two of them, or one and a living one, link the same; then nothing is changed.
        """
        table: Any = kind
        back = update(kind).where(table.deleted.is_not(None), table.purging.is_(False)).values(deleted=None)
        try:
            with self._database.session() as session:
                session.execute(back)
        except IntegrityError:
            raise LinkTakenError(f"two {NAMES[kind]}s would link the same object", "Undelete them one by one") from None


def by_id(session: Session, kind: type[RecordType], identity: str, *, lock: bool = False) -> RecordType | None:
    """A record or tombstone, with `lock` kept from others until the transaction ends; None if there is none."""
    return None if "\0" in identity else session.get(kind, identity, with_for_update=lock or None)


def _bury(record: RecordType) -> None:
    record.deleted = datetime.now(UTC)


def _restore(record: RecordType) -> None:
    if record.purging:
        raise PurgingError(
            f"the objects of the {NAMES[type(record)]} {record.id} are being removed", "It can only be deleted"
        )
    record.deleted = None


def expect(record: RecordType | None, kind: type[RecordType], identity: str, deleted: bool = False) -> RecordType:
    """The record if it is a living one, or a tombstone if `deleted`. Raises MissingError: it is not."""
    if record is None or (record.deleted is not None) is not deleted:
        raise MissingError(f"there is no {'deleted ' * deleted}{NAMES[kind]} with the id {identity}")
    return record


def _check_link(session: Session, record: RecordType) -> None:
    """Raises LinkTakenError: what the record is to link is being removed."""
    if isinstance(record, PublicKey) or record.link_path is None:
        return
    session.flush()
    lock_links(session)
    paths = {record.link_path, *(item.path for item in getattr(record, "objects", ()))}
    purging = [
        select(Recipe.link_path).where(Recipe.link_path.in_(paths), Recipe.purging),
        select(ImageObject.path).join(Image).where(ImageObject.path.in_(paths), Image.purging),
    ]
    for query in purging:
        if (path := session.scalars(query).first()) is not None:
            raise LinkTakenError(f"{path} is being removed with a deleted record")


def _taken(path: str | None) -> LinkTakenError:
    return LinkTakenError(f"{path} is linked by another record")
