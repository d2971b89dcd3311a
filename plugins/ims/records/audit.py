"""The audit log: who created, changed, deleted, undeleted or purged which record, when, and what it was before.

An entry is written in the transaction of its change: there is no change without an entry, and no entry without a
change. Entries are never changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, delete, event, insert, inspect, literal, select
from sqlalchemy.orm import Session

from ims.records.models import AuditEntry, Base, Image, PublicKey, Recipe, Shell

if TYPE_CHECKING:
    from ims.records.database import Database

actor: ContextVar[str] = ContextVar("actor", default="")
"""The name of the user whose request makes the changes."""

KINDS: dict[type[Base], str] = {Recipe: "recipe", Image: "image", PublicKey: "public key", Shell: "shell"}
"""The tables whose changes are logged, and the names of their rows. Jobs and nights are logged with `AuditLog.add`."""

_UNLOGGED = {"link_path", "changes", "checked", "scrubbed"}
"""`link_path` repeats the link, `changes` may be large and never changes, plans and maintenance set the others."""


@dataclass(frozen=True)
class AuditFilter:
    """Selects the entries that match every field that is not None, newest first.

    `since` is inclusive, `until` exclusive. `below` is the entry that ends the previous page.
    """

    kind: str | None = None
    record_id: str | None = None
    name: str | None = None
    who: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    below: int | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The conditions of the query."""
        equal = ("kind", "record_id", "name", "who", "action")
        found = [getattr(AuditEntry, name) == value for name in equal if (value := getattr(self, name)) is not None]
        if self.since is not None:
            found.append(AuditEntry.created >= self.since)
        if self.until is not None:
            found.append(AuditEntry.created < self.until)
        if self.below is not None:
            found.append(AuditEntry.id < self.below)
        return found


class AuditLog:
    """The entries in a database. Each call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, selected: AuditFilter, limit: int) -> Sequence[AuditEntry]:
        """At most `limit` of the selected entries, newest first."""
        query = select(AuditEntry).where(*selected.conditions()).order_by(AuditEntry.id.desc()).limit(limit)
        with self._database.reading() as session:
            return session.scalars(query).all()

    def add(self, kind: str, record_id: str, name: str, action: str, after: dict[str, Any] | None = None) -> None:
        """Log a change of something that is not in this database, such as a job."""
        entry = AuditEntry(who=actor.get(), kind=kind, record_id=record_id, name=name, action=action, after=after)
        with self._database.session() as session:
            session.add(entry)

    def has_older(self, moment: datetime) -> bool:
        """Whether there are entries from before that time."""
        return bool(self.list(AuditFilter(until=moment), 1))

    def remove_older(self, moment: datetime) -> bool:
        """Remove the entries from before that time. Returns True."""
        with self._database.session() as session:
            session.execute(delete(AuditEntry).where(AuditEntry.created < moment))
        return True


class LoggedSession(Session):
    """A session that logs what it changes, except by statements: see `log_statement`."""


@event.listens_for(LoggedSession, "after_flush")
def _log_flush(session: Session, _context: object) -> None:
    rows = [row for item in (*session.new, *session.dirty) if type(item) in KINDS and (row := _row(item))]
    if rows:
        session.execute(insert(AuditEntry), rows)


def _row(item: Any) -> dict[str, Any] | None:
    """The entry for a new or changed row; None if only columns without entries have changed."""
    state = inspect(item)
    columns = {
        column.key: column.columns[0].name for column in state.mapper.column_attrs if column.key not in _UNLOGGED
    }
    before = {key: state.attrs[key].history.deleted[0] for key in columns if state.attrs[key].history.deleted}
    if not before and not state.pending:
        return None
    action = "create" if state.pending else _action(item, before)
    shown = columns if action in ("create", "purge") else before
    values = {columns[key]: _plain(getattr(item, key)) for key in shown}
    return {
        "who": actor.get(),
        "kind": KINDS[type(item)],
        "record_id": item.job_id if isinstance(item, Shell) else item.id,
        "name": item.name,
        "action": action,
        "before": values if action == "purge" else {columns[key]: _plain(before[key]) for key in before} or None,
        "after": None if action == "purge" else values,
    }


def _action(item: Any, before: dict[str, Any]) -> str:
    if "purging" in before:
        return "purge"
    if "deleted" in before:
        return "undelete" if item.deleted is None else "delete"
    return "change"


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def log_statement(session: Session, kind: type[Base], action: str, *conditions: ColumnElement[bool]) -> None:
    """Log that a statement of the same transaction will change all records that meet the conditions."""
    table: Any = kind
    constants = {"created": datetime.now(UTC), "who": actor.get(), "action": action, "kind": KINDS[kind]}
    values = [literal(value, getattr(AuditEntry, name).type) for name, value in constants.items()]
    chosen = select(*values, table.id, table.name).where(*conditions)
    session.execute(insert(AuditEntry).from_select([*constants, "record_id", "name"], chosen))
