"""Reads the columns of records without making objects of them: for the requests that a service answers most."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, inspect, select

from ims.errors import MissingError
from ims.records.audit import KINDS
from ims.records.database import Database
from ims.records.selection import Position, Selection

Row = Sequence[Any]


class Rows:
    """Rows in a database. Each has the values of all columns, in the order of `columns`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, kind: Any, selection: Selection) -> Sequence[Row]:
        """The rows of the selected records."""
        with self._database.connection() as connection:
            query = selection.query(kind, connection.dialect.name)
            return connection.execute(query.with_only_columns(*_columns(kind))).all()

    def get(self, kind: Any, identity: str, *, deleted: bool = False) -> Row:
        """Returns the row of a record, or of a tombstone if `deleted`. Raises MissingError if there is none."""
        found = None
        if "\0" not in identity:
            with self._database.connection() as connection:
                found = connection.execute(_by_id(kind, deleted), {"identity": identity}).first()
        if found is None:
            raise missing(kind, identity, deleted)
        return found


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


@cache
def _columns(kind: Any) -> tuple[Any, ...]:
    """The columns of the table: SQLAlchemy compares those of a class one by one in each query."""
    return tuple(attribute.columns[0] for attribute in inspect(kind).column_attrs)


@cache
def _by_id(kind: Any, deleted: bool) -> Select[Any]:
    condition = kind.deleted.is_not(None) if deleted else kind.deleted.is_(None)
    return select(*_columns(kind)).where(kind.id == bindparam("identity"), condition)
