"""Which records are meant: those of a list, a page of it, with certain properties."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, literal, select, tuple_

from ims.records.models import Record


@dataclass(frozen=True)
class Position:
    """Where a record stands in the order of making; with the id it is the same for ever."""

    created: datetime
    id: str


@dataclass(frozen=True)
class Selection:
    """All of a kind that live (or are `deleted`) for which everything holds that is not None; oldest first.

    `created_after` and `created_before` leave out the moment itself; `labels` are an image's metadata. `after`
    and `limit` choose a page.
    """

    deleted: bool = False
    name: str | None = None
    arch: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
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
        return conditions + [_labelled(kind, key, value, dialect) for key, value in self.labels]


def position(record: Record) -> Position:
    """Where a record stands in its list."""
    return Position(record.created, record.id)


def _labelled(kind: Any, key: str, value: str, dialect: str) -> ColumnElement[bool]:
    each = func.json_each if dialect == "sqlite" else func.json_each_text
    entry = each(kind.labels).table_valued("key", "value")
    return exists(select(literal(1)).where(entry.c.key == key, entry.c.value == value))
