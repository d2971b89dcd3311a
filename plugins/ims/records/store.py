"""Reading, writing, deleting and purging records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ims.errors import InputError, MissingError
from ims.lineage import lineage_of
from ims.records.audit import KINDS, log_statement
from ims.records.database import Database, lock_links
from ims.records.holds import UNUSED
from ims.records.lineage import newest_of_lineages, recipe_ids_of_lineage
from ims.records.models import AnyRecord, Image, ImageObject, ImagePackage, PublicKey, Recipe, RecordType
from ims.records.objects import exclusive_paths
from ims.records.rows import Rows, missing
from ims.records.selection import Selection


class LinkTakenError(InputError):
    """Another record links the same object."""


class IdTakenError(InputError):
    """A record, or a tombstone, has the same id."""


class PurgingError(InputError):
    """The objects of a tombstone are being removed."""


class Records:
    """The records in a database. Each call is one transaction. Tombstones are left out unless the method says so.

    `rows` reads records without making objects of them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.rows = Rows(database)

    def list(self, kind: type[RecordType], selection: Selection = Selection()) -> list[RecordType]:  # noqa: B008
        """The selected records of a kind."""
        with self._database.reading() as session:
            return list(session.scalars(selection.query(kind, session.get_bind().dialect.name)))

    def get(self, kind: type[RecordType], identity: str, *, deleted: bool = False) -> RecordType:
        """Returns a record, or a tombstone if `deleted`. Raises MissingError if there is none with that id."""
        with self._database.reading() as session:
            return _require(_by_id(session, kind, identity), kind, identity, deleted)

    def ids_with_prefix(self, kind: type[RecordType], prefix: str, limit: int) -> Sequence[str]:
        """The ids of at most `limit` records that begin with a text, the newest records first."""
        table: Any = kind
        query = select(table.id).where(table.deleted.is_(None), table.id.startswith(prefix, autoescape=True))
        with self._database.reading() as session:
            return session.scalars(query.order_by(table.created.desc(), table.id.desc()).limit(limit)).all()

    def find(self, kind: type[RecordType], identity: str) -> RecordType | None:
        """Returns a record or tombstone, or None."""
        with self._database.reading() as session:
            return _by_id(session, kind, identity)

    def find_all(self, kind: type[RecordType], identities: Iterable[str]) -> dict[str, RecordType]:
        """The records and tombstones with the given ids, by id. Unknown ids are left out."""
        known: Any = kind.id
        possible = {identity for identity in identities if "\0" not in identity}
        with self._database.reading() as session:
            return {record.id: record for record in session.scalars(select(kind).where(known.in_(possible)))}

    def newest_image(self, recipe: Recipe) -> Image:
        """Returns the newest image in the lineage of a recipe. Raises MissingError if there is none."""
        images = select(Image).where(Image.deleted.is_(None), Image.source_recipe_id.in_(recipe_ids_of_lineage(recipe)))
        with self._database.reading() as session:
            image = session.scalars(images.order_by(Image.created.desc(), Image.id.desc()).limit(1)).first()
        if image is None:
            raise MissingError(f"there is no image of the recipe {recipe.name} ({recipe.id})")
        return image

    def newest_images(self, recipes: Iterable[Recipe]) -> dict[str, Image]:
        """The newest images in the lineages of recipes, by the ids of the recipes that have one."""
        with self._database.reading() as session:
            newest = {(name, arch): image for image, name, arch in session.execute(newest_of_lineages())}
        return {recipe.id: newest[key] for recipe in recipes if (key := lineage_of(recipe)) in newest}

    def is_line_nightly(self, image: Image) -> bool:
        """Whether the newest image of the line that a customized image will continue is marked for nights."""
        line = (Image.name == image.name, Image.arch == image.arch, Image.source_recipe_id.is_(None))
        images = select(Image.nightly).where(Image.deleted.is_(None), Image.link_path.is_not(None), *line)
        newest = images.order_by(Image.created.desc(), Image.id.desc())
        with self._database.reading() as session:
            return bool(session.scalars(newest.limit(1)).first())

    def packages(self, identity: str) -> Sequence[ImagePackage]:
        """Returns the packages of an image, by name. Raises MissingError if there is no image with that id."""
        order = (ImagePackage.name, ImagePackage.version, ImagePackage.arch)
        with self._database.reading() as session:
            _require(_by_id(session, Image, identity), Image, identity)
            query = select(ImagePackage).where(ImagePackage.image_id == identity).order_by(*order)
            return session.scalars(query).all()

    def versions(self, package: str) -> Sequence[tuple[str, str]]:
        """The package types and versions in which images and their tombstones contain a package."""
        query = select(ImagePackage.type, ImagePackage.version).where(ImagePackage.name == package).distinct()
        with self._database.reading() as session:
            return [(kind, version) for kind, version in session.execute(query)]

    def count_unknown(self, selection: Selection) -> int:
        """The number of images whose packages are unknown, and that match everything but the filter of packages."""
        with self._database.reading() as session:
            return session.scalars(selection.unknown(session.get_bind().dialect.name)).one()

    def images_of_jobs(self, job_ids: Iterable[str]) -> dict[str, Image]:
        """The images and tombstones that jobs created, by job id."""
        with self._database.reading() as session:
            found = session.scalars(select(Image).where(Image.job_id.in_(set(job_ids))))
            return {str(image.job_id): image for image in found}

    def add(self, record: RecordType) -> RecordType:
        """Store a new record. Raises LinkTakenError, IdTakenError."""
        try:
            with self._database.session() as session:
                session.add(record)
                _check_link(session, record)
        except IntegrityError:
            if record.id is not None and self.find(type(record), record.id) is not None:
                raise IdTakenError(f"the id {record.id} is taken by another record or a tombstone") from None
            raise _link_taken(getattr(record, "link_path", None)) from None
        return record

    def change(
        self, kind: type[RecordType], identity: str, change: Callable[[RecordType], None], *, deleted: bool = False
    ) -> RecordType:
        """Apply `change` to a record, or to a tombstone if `deleted`, while its row is locked.

        Raises MissingError, LinkTakenError.
        """
        with self._database.session() as session:
            record = _require(_by_id(session, kind, identity, lock=True), kind, identity, deleted)
            before = getattr(record, "link_path", None)
            with session.no_autoflush:
                change(record)
            path = getattr(record, "link_path", None)  # a failed flush expires the attribute
            try:
                session.flush()
            except IntegrityError:
                raise _link_taken(path) from None
            if path != before:
                _check_link(session, record)
            return record

    def delete(self, kind: type[RecordType], identity: str) -> None:
        """Make a record a tombstone. Raises MissingError if there is none with that id."""
        self.change(kind, identity, _delete)

    def delete_all(self, kind: type[RecordType]) -> None:
        """Make all records of a kind tombstones."""
        table: Any = kind
        with self._database.session() as session:
            log_statement(session, kind, "delete", table.deleted.is_(None))
            session.execute(update(kind).where(table.deleted.is_(None)).values(deleted=datetime.now(UTC)))

    def expire(self, identity: str) -> bool:
        """Make an image a tombstone, unless it was pinned or deleted since retention chose it.

        Returns whether it did.
        """
        with self._database.session() as session:
            image = _by_id(session, Image, identity, lock=True)
            if image is None or image.deleted is not None or UNUSED.of(image):
                return False
            _delete(image)
            return True

    def undelete(self, kind: type[RecordType], identity: str) -> None:
        """Turn a tombstone back into a record. Raises MissingError, LinkTakenError, PurgingError."""
        self.change(kind, identity, _undelete, deleted=True)

    def undelete_all(self, kind: type[RecordType]) -> None:
        """Turn all tombstones of a kind back into records, except those that are being purged.

        Raises LinkTakenError, and changes nothing, if two records would link the same object.
        """
        table: Any = kind
        tombstones = (table.deleted.is_not(None), table.purging.is_(False))
        try:
            with self._database.session() as session:
                log_statement(session, kind, "undelete", *tombstones)
                session.execute(update(kind).where(*tombstones).values(deleted=None))
        except IntegrityError:
            raise LinkTakenError(f"two {KINDS[kind]}s would link the same object", "Undelete them one by one") from None

    def begin_purge(self, kind: type[RecordType], identity: str, objects: set[str]) -> Sequence[str]:
        """Mark a tombstone as being purged; returns which of `objects` to remove, because no other record needs them.

        From now on the tombstone cannot be undeleted, and no new record can link these objects.
        Raises MissingError if there is no tombstone with that id.
        """
        with self._database.session() as session:
            lock_links(session)
            record = _require(_by_id(session, kind, identity, lock=True), kind, identity, deleted=True)
            record.purging = True
            return exclusive_paths(session, record, objects)

    def finish_purge(self, kind: type[RecordType], identity: str) -> None:
        """Remove a tombstone from the database, if it is still there."""
        with self._database.session() as session:
            record = _by_id(session, kind, identity)
            if record is not None and record.deleted is not None:
                session.delete(record)


def _by_id(session: Session, kind: type[RecordType], identity: str, *, lock: bool = False) -> RecordType | None:
    """Returns a record or tombstone, or None. With `lock`, its row stays locked until the transaction ends."""
    return None if "\0" in identity else session.get(kind, identity, with_for_update=lock or None)


def _require(record: RecordType | None, kind: type[RecordType], identity: str, deleted: bool = False) -> RecordType:
    """Returns the record if it is a living one, or a tombstone if `deleted`. Raises MissingError otherwise."""
    if record is None or (record.deleted is not None) is not deleted:
        raise missing(kind, identity, deleted)
    return record


def _delete(record: AnyRecord) -> None:
    record.deleted = datetime.now(UTC)


def _undelete(record: AnyRecord) -> None:
    if record.purging:
        raise PurgingError(f"the {KINDS[type(record)]} {record.id} is being purged", "Delete it to finish the purge")
    record.deleted = None


def _check_link(session: Session, record: AnyRecord) -> None:
    """Raises LinkTakenError if an object of the record is being removed by a purge."""
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
            raise LinkTakenError(f"{path} is being purged with a deleted record")


def _link_taken(path: str | None) -> LinkTakenError:
    return LinkTakenError(f"{path} is linked by another record")
