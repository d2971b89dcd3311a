"""Which records are meant: those of a list, a page of it, with certain properties."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ColumnElement, Select, and_, exists, false, func, literal, or_, select, tuple_

from ims.records.models import ImagePackage, Record


@dataclass(frozen=True)
class Position:
    """Where a record stands in the order of making; with the id it is the same for ever."""

    created: datetime
    id: str


@dataclass(frozen=True)
class Selection:
    """All of a kind that live (or are `deleted`) for which everything holds that is not None; oldest first.

    `created_after` and `created_before` leave out the moment itself; `labels` are an image's metadata, `package` is
    one that it holds, in one of `versions` if these are given, by type. `after` and `limit` choose a page.
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
        """The query for the records of `kind`."""
        order = (kind.created.desc(), kind.id.desc()) if self.newest_first else (kind.created, kind.id)
        return select(kind).where(*self._conditions(kind, dialect)).order_by(*order).limit(self.limit)

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
            conditions.append(_holds(kind, self.package, self.versions, dialect))
        return conditions + [_labelled(kind, key, value, dialect) for key, value in self.labels]


def position(record: Record) -> Position:
    """Where a record stands in its list."""
    return Position(record.created, record.id)


def _labelled(kind: Any, key: str, value: str, dialect: str) -> ColumnElement[bool]:
    each = func.json_each if dialect == "sqlite" else func.json_each_text
    entry = each(kind.labels).table_valued("key", "value")
    return exists(select(literal(1)).where(entry.c.key == key, entry.c.value == value))


def _holds(
    kind: Any, package: str, versions: tuple[tuple[str, tuple[str, ...]], ...] | None, dialect: str
) -> ColumnElement[bool]:
    """Asked of each image in turn: a page of a package that all hold costs no more than one that few do."""
    held = exists().where(ImagePackage.image_id == kind.id, ImagePackage.name == package)
    if versions is None:
        return held
    # As one parameter: there may be more versions than a statement can have parameters.
    each = func.json_each if dialect == "sqlite" else func.json_array_elements_text
    wanted = [
        and_(
            ImagePackage.type == manager,
            ImagePackage.version.in_(select(each(literal(list(some), JSON)).table_valued("value").c.value)),
        )
        for manager, some in versions
    ]
    return held.where(or_(false(), *wanted))
