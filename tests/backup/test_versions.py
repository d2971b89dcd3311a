"""The way back to an earlier version."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ims import supervisord
from ims.backup.versions import REVISIONS, downgrade
from ims.errors import ConfigurationError, InputError
from ims.records.database import Database
from ims.settings import Settings
from tests.ports import free_ports


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """An installation with a database of records and unused ports."""
    port, s3_port, internal_port = free_ports(3)
    own = Settings(home=tmp_path, port=port, s3_port=s3_port, s3_internal_port=internal_port)
    Database(own.records_url).engine.dispose()
    return own


def revision(own: Settings) -> str:
    """The revision of the database."""
    with closing(sqlite3.connect(own.home / "ims.db")) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


@pytest.mark.parametrize("version", REVISIONS)
def test_downgrade(own: Settings, version: str) -> None:
    """Afterwards, the database has the revision of that version, and can be upgraded again."""
    newest = revision(own)
    downgrade(own, version)
    assert revision(own) == REVISIONS[version] != newest
    Database(own.records_url).engine.dispose()
    assert revision(own) == newest


def test_unknown_version(own: Settings) -> None:
    """The error names the versions."""
    with pytest.raises(InputError, match=r"9\.9\.9 is not an earlier version. Name one of 0\.1\.0"):
        downgrade(own, "9.9.9")


def test_database_of_an_earlier_version(own: Settings) -> None:
    """It is not changed, and the error says what to do."""
    downgrade(own, "0.3.0")
    with pytest.raises(ConfigurationError, match=r"cannot be changed to the revision 0010: .* Another version"):
        downgrade(own, "0.4.0")
    assert revision(own) == REVISIONS["0.3.0"]


def test_running_service(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database of a service that runs is not changed."""
    newest = revision(own)
    monkeypatch.setattr(supervisord, "is_running", lambda _settings: True)
    with pytest.raises(ConfigurationError, match="the service runs"):
        downgrade(own, "0.4.0")
    assert revision(own) == newest
