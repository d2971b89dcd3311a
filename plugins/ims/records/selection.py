"""Selecting records by their properties, page by page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ColumnElement, Select, and_, exists, false, func, literal, or_, select, tuple_

from ims.records.models import Image, ImagePackage, Record


@dataclass(frozen=True)
class Position:
    """The position of a record in the order of creation. The id makes the order unique and stable."""

    created: datetime
    id: str


@dataclass(frozen=True)
class Selection:
    """Selects the records that match every filter that is not None, oldest first; tombstones only if `deleted`.

    `created_after` and `created_before` are exclusive. `labels` are entries in the metadata of an image. `package` is
    the name of an installed package, `versions` maps package types to the versions to match. `after` and `limit`
    select a page.
    """

    deleted: bool = False
    name: str | None = None
    arch: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    package: str | None = None
    versions: tuple[tuple[str, tuple[str, ...]], ...] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    after: Position | None = None
    limit: int | None = None
    newest_first: bool = False

    def query(self, kind: Any, dialect: str) -> Select[Any]:
        """The query for the selected records of `kind`."""
        order = (kind.created.desc(), kind.id.desc()) if self.newest_first else (kind.created, kind.id)
        return select(kind).where(*self._conditions(kind, dialect)).order_by(*order).limit(self.limit)

    def unknown(self, dialect: str) -> Select[int]:
        """The query for the number of images that may have the package: theirs are unknown, all other filters match."""
        others = replace(self, package=None, versions=None, after=None)
        unknown = Image.package_count.is_(None)
        return select(func.count()).select_from(Image).where(*others._conditions(Image, dialect), unknown)

    def _conditions(self, kind: Any, dialect: str) -> list[ColumnElement[bool]]:
        conditions = [kind.deleted.is_not(None) if self.deleted else kind.deleted.is_(None)]
        for column in ("name", "arch"):
            if (value := getattr(self, column)) is not None:
                conditions.append(getattr(kind, column) == value)
        if self.created_after is not None:
            conditions.append(kind.created > self.created_after)
        if self.created_before is not None:
            conditions.append(kind.created < self.created_before)
        if self.after is not None:
            conditions.append(tuple_(kind.created, kind.id) > (self.after.created, self.after.id))
        if self.package is not None:
            conditions.append(_has_package(kind, self.package, self.versions, dialect))
        return conditions + [_has_label(kind, key, value, dialect) for key, value in self.labels]


def position(record: Record) -> Position:
    """The position of a record in its list."""
    return Position(record.created, record.id)


def _has_label(kind: Any, key: str, value: str, dialect: str) -> ColumnElement[bool]:
    each = func.json_each if dialect == "sqlite" else func.json_each_text
    entry = each(kind.labels).table_valued("key", "value")
    return exists(select(literal(1)).where(entry.c.key == key, entry.c.value == value))


def _has_package(
    kind: Any, package: str, versions: tuple[tuple[str, tuple[str, ...]], ...] | None, dialect: str
) -> ColumnElement[bool]:
    """A subquery for each image, so that a page costs the same whether many images have the package or few."""
    installed = exists().where(ImagePackage.image_id == kind.id, ImagePackage.name == package)
    if versions is None:
        return installed
    # One JSON parameter: there may be more versions than a statement can have parameters.
    each = func.json_each if dialect == "sqlite" else func.json_array_elements_text
    matches = [
        and_(
            ImagePackage.type == package_type,
            ImagePackage.version.in_(select(each(literal(list(listed), JSON)).table_valued("value").c.value)),
        )
        for package_type, listed in versions
    ]
    return installed.where(or_(false(), *matches))
