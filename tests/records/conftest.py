"""Databases of records, in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from ims.records.database import Database
from ims.records.store import Records
from ims.settings import Settings
from ims.stack import postgres


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a PostgreSQL server that runs in an unusual time zone."""
    home = Path(tempfile.mkdtemp(prefix="ims-records-"))
    home.chmod(0o755)  # PostgreSQL does not run as root
    own = Settings(home=home)
    postgres.prepare(own)
    command = [*postgres.command(own), "--timezone=America/St_Johns", "--fsync=off"]
    process = subprocess.Popen(command, user=postgres.USER, extra_groups=[], cwd="/", stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not postgres.is_ready(own) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert postgres.is_ready(own)
    yield postgres.url(own)
    process.send_signal(signal.SIGINT)
    process.wait()
    shutil.rmtree(home)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.system)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, in the form that administrators write."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'records.db'}"
    server = make_url(request.getfixturevalue("server"))
    name = f"test_{time.monotonic_ns()}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.set(drivername="postgresql", database=name).render_as_string(hide_password=False)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """A database with the newest schema."""
    opened = Database(url)
    yield opened
    opened.engine.dispose()


@pytest.fixture
def records(database: Database) -> Records:
    """The records in that database."""
    return Records(database)
