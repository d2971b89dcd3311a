"""Reads the columns of records without making objects of them: for the requests that are most frequent.

SQLite's driver gives up Python's interpreter lock for each row, and a busy service gets it back late. So SQLite returns
all rows as one text in JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

from pydantic_core import from_json
from sqlalchemy import JSON, Boolean, Select, Text, bindparam, func, inspect, select

from ims.errors import MissingError
from ims.records.audit import KINDS
from ims.records.database import Database
from ims.records.models import UtcDateTime
from ims.records.selection import Position, Selection, Shape, statement

Row = Sequence[Any]


class Rows:
    """Rows in a database. Each has the values of all columns, in the order of `columns`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, kind: Any, selection: Selection) -> Sequence[Row]:
        """The rows of the selected records."""
        with self._database.connection() as connection:
            dialect = connection.dialect.name
            found = connection.execute(_selected(kind, dialect, selection.shape()), selection.values())
            return _unpack(kind, found.scalar_one()) if dialect == "sqlite" else found.all()

    def get(self, kind: Any, identity: str, *, deleted: bool = False) -> Row:
        """Returns the row of a record, or of a tombstone if `deleted`. Raises MissingError if there is none."""
        found = self._find(kind, identity, deleted) if "\0" not in identity else None
        if found is None:
            raise missing(kind, identity, deleted)
        return found

    def _find(self, kind: Any, identity: str, deleted: bool) -> Row | None:
        with self._database.connection() as connection:
            is_packed = connection.dialect.name == "sqlite"
            found = connection.execute(_by_id(kind, deleted, is_packed), {"identity": identity}).first()
        return _unpack(kind, found[0])[0] if found is not None and is_packed else found


@cache
def columns(kind: Any) -> tuple[str, ...]:
    """The names of the attributes of a record that are columns."""
    return tuple(inspect(kind).column_attrs.keys())


def position(kind: Any, row: Row) -> Position:
    """The position of a row in its list."""
    names = columns(kind)
    return Position(row[names.index("created")], row[names.index("id")])


def missing(kind: Any, identity: str, deleted: bool) -> MissingError:
    """The error if there is no record, or no tombstone if `deleted`, with that id."""
    return MissingError(f"there is no {'deleted ' * deleted}{KINDS[kind]} with the id {identity}")


@lru_cache(maxsize=200)
def _selected(kind: Any, dialect: str, shape: Shape) -> Select[Any]:
    query = statement(kind, dialect, shape)
    if dialect != "sqlite":
        return query.with_only_columns(*_columns(kind))
    rows = query.with_only_columns(_packed(kind)).subquery()
    return select(func.group_concat(rows.c.row))


@cache
def _columns(kind: Any) -> tuple[Any, ...]:
    """The columns of the table: SQLAlchemy compares those of a class one by one in each query."""
    return tuple(attribute.columns[0] for attribute in inspect(kind).column_attrs)


@cache
def _by_id(kind: Any, deleted: bool, is_packed: bool) -> Select[Any]:
    condition = kind.deleted.is_not(None) if deleted else kind.deleted.is_(None)
    wanted = (_packed(kind),) if is_packed else _columns(kind)
    return select(*wanted).where(kind.id == bindparam("identity"), condition)


@cache
def _packed(kind: Any) -> Any:
    """A row of SQLite as JSON."""
    values = [func.json(column) if isinstance(column.type, JSON) else column for column in _columns(kind)]
    return func.json_array(*values, type_=Text).label("row")


def _unpack(kind: Any, text: str | None) -> Sequence[Row]:
    rows: list[list[Any]] = from_json(f"[{text or ''}]")
    for number, convert in _conversions(kind):
        for row in rows:
            if row[number] is not None:
                row[number] = convert(row[number])
    return rows


@cache
def _conversions(kind: Any) -> Sequence[tuple[int, Callable[[Any], Any]]]:
    """The columns whose values SQLite returns as something else, by number."""
    kinds: dict[type, Callable[[Any], Any]] = {Boolean: bool, UtcDateTime: _time}
    return [
        (number, kinds[type(column.type)]) for number, column in enumerate(_columns(kind)) if type(column.type) in kinds
    ]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
