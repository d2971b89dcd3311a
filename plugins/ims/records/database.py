"""The database of records, in SQLite or PostgreSQL. Opening it migrates the schema to the newest revision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from pydantic_core import from_json
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from ims.errors import ConfigurationError, UnavailableError
from ims.records.audit import LoggedSession

MIGRATIONS = Path(__file__).with_name("migrations")
_MIGRATION_LOCK = 0x696D73  # "ims"
_LINKS_LOCK = _MIGRATION_LOCK + 1
CONNECTIONS = 15
"""Connections of a process. They stay open: to open one costs more than most queries."""
_WITHOUT_TRANSACTION: dict[str, dict[str, Any]] = {
    "sqlite": {"single": True},
    "postgresql": {"isolation_level": "AUTOCOMMIT"},
}


class Database:
    """Opens transactions. Every method raises UnavailableError if the database does not answer."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._reader = self.engine.execution_options(reading=True)
        self._querying = self.engine.execution_options(**_WITHOUT_TRANSACTION[self.engine.dialect.name])
        # Writers that wait for SQLite poll its lock, and an unlucky one polls for seconds. This lock is fair.
        self._writer: AbstractContextManager[object] = Lock() if self.engine.dialect.name == "sqlite" else nullcontext()
        with _database_errors():
            migrate(self.engine)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction that reads and writes. The end of the block commits it, an exception rolls it back."""
        session = LoggedSession(self.engine, expire_on_commit=False)
        with self._writer, _database_errors(), session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads. It blocks no writer, and no writer blocks it. Changes are discarded."""
        with _database_errors(), Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection for queries, each of which is a transaction of its own."""
        with _database_errors(), self._querying.connect() as connection:
            yield connection


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except (OperationalError, PoolTimeout) as error:
        message = str(getattr(error, "orig", error)).strip().partition("\n")[0]
        raise UnavailableError(f"the database of records does not answer: {message}") from error


def lock_links(session: Session) -> None:
    """Lock the references to objects until the transaction ends: no other transaction can change or purge them."""
    if session.get_bind().dialect.name == "postgresql":  # SQLite has only one writer
        session.execute(text(f"SELECT pg_advisory_xact_lock({_LINKS_LOCK})"))


def migrate(engine: Engine, revision: str = "head") -> None:
    """Migrate the schema to a revision, by default the newest.

    If several processes call this at once, one does the work. Raises ConfigurationError if a later version of the
    service has migrated the schema.
    """
    with _migrations(engine) as config:
        try:
            command.upgrade(config, revision)
        except CommandError as error:
            raise ConfigurationError(
                f"a later version of the service has changed the database of records: {error}",
                "Install that version again, or run its ims downgrade",
            ) from None


def downgrade(url: str, revision: str) -> None:
    """Migrate the schema back to a revision. What that revision does not store is lost.

    Raises ConfigurationError if the schema has an earlier or an unknown revision, UnavailableError if the database does
    not answer.
    """
    engine = _engine(url)
    try:
        with _database_errors(), _migrations(engine) as config:
            command.downgrade(config, revision)
    except CommandError as error:
        raise ConfigurationError(
            f"the database of records cannot be changed to the revision {revision}: {error}",
            "Another version of the service has changed it last: start or downgrade it with that version",
        ) from None
    finally:
        engine.dispose()


@contextmanager
def _migrations(engine: Engine) -> Iterator[Config]:
    """The configuration of Alembic with a connection, in one transaction."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        config.attributes["connection"] = connection
        yield config


def _engine(url: str) -> Engine:
    engine = create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1),
        pool_pre_ping=not url.startswith("sqlite"),
        pool_size=CONNECTIONS,
        max_overflow=0,
        json_deserializer=from_json,
    )
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    """Let readers work next to the writer, and make commits survive a power cut."""
    connection.isolation_level = None  # otherwise the driver starts the transaction only after DDL
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Any) -> None:
    """Take the write lock at the start: a transaction that reads first fails at its first write instead of waiting."""
    options = connection.get_execution_options()
    if not options.get("single", False):
        connection.exec_driver_sql("BEGIN" if options.get("reading", False) else "BEGIN IMMEDIATE")
