"""The database of the records: SQLite or PostgreSQL, brought to the newest schema when it is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from ims.errors import UnavailableError

_MIGRATION_LOCK = 0x696D73  # "ims"
_LINKS_LOCK = _MIGRATION_LOCK + 1


class Database:
    """Opens sessions; the schema is migrated first. All raises UnavailableError: the database does not answer."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        # Waiting writers of SQLite look again now and then, and some wait for seconds: here each gets its turn.
        self._turn: AbstractContextManager[object] = Lock() if self.engine.dialect.name == "sqlite" else nullcontext()
        with _answering():
            migrate(self.engine)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction: committed at the end of the block, rolled back if it raises."""
        with self._turn, _answering(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A view of the database that waits for no writer, and that no writer waits for. Nothing is kept of it."""
        view = self.engine.execution_options(reading=True)
        with _answering(), Session(view, expire_on_commit=False) as session:
            yield session


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (OperationalError, PoolTimeout) as error:
        said = str(getattr(error, "orig", error)).strip().partition("\n")[0]
        raise UnavailableError(f"the database of the records does not answer: {said}") from error


def lock_links(session: Session) -> None:
    """Wait until no other transaction decides who needs which object, and keep others waiting until this one ends."""
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer anyway
        session.execute(text(f"SELECT pg_advisory_xact_lock({_LINKS_LOCK})"))


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision. Several processes may do so at once; one does the work."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _engine(url: str) -> Engine:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1), pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    """Readers beside one writer, and no torn write after a power cut."""
    connection.isolation_level = None  # the driver's own BEGIN would come too late for DDL
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Any) -> None:
    """Take the write lock at once: a transaction that reads first and writes later would fail instead of wait."""
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
