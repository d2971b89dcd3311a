"""The format of a backup, and when a restore refuses to start."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ims import __version__, supervisord
from ims.backup import contents, restoring
from ims.errors import ConfigurationError, ImsError, InputError
from ims.settings import Settings

CREATED = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A backup of two files."""
    return packed(tmp_path, __version__)


def packed(folder: Path, version: str) -> Path:
    """A backup of two files by a version of the service."""
    saved = folder / f"saved-{version}"
    (saved / "home" / "secrets").mkdir(parents=True)
    (saved / "home" / "secrets" / "key").write_text("value")
    (saved / contents.AIRFLOW).write_bytes(b"dump" * 1000)
    target = folder / f"backup-{version}"
    contents.pack(saved, version, CREATED, target)
    return target


def test_pack_and_unpack(source: Path) -> None:
    """What was packed comes back, and only its owner can read it."""
    assert source.stat().st_mode & 0o777 == 0o600
    with contents.unpacked(source) as (folder, description):
        assert (folder / "home" / "secrets" / "key").read_text() == "value"
        assert (description.version, description.created) == (__version__, CREATED)
        assert set(description.files) == {"home/secrets/key", contents.AIRFLOW}
    assert not folder.exists()


def cut(source: Path) -> None:
    """The second half is missing."""
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])


def flipped(source: Path) -> None:
    """A byte of the compressed data has another value."""
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 0xFF
    source.write_bytes(data)


def altered(source: Path) -> None:
    """A file has other content."""
    with tarfile.open(source) as archive:
        archive.extractall(source.parent / "altered", filter="data")
    (source.parent / "altered" / "home" / "secrets" / "key").write_text("other")
    with tarfile.open(source, "w:gz") as archive:
        archive.add(source.parent / "altered", ".")


def incomplete(source: Path) -> None:
    """A file is missing."""
    with tarfile.open(source) as archive:
        description = archive.extractfile(contents.DESCRIPTION)
        assert description is not None
        source.with_name("description").write_bytes(description.read())
    with tarfile.open(source, "w:gz") as archive:
        archive.add(source.with_name("description"), contents.DESCRIPTION)


def text(source: Path) -> None:
    """It is no archive."""
    source.write_text("hello")


@pytest.mark.parametrize("damage", [cut, flipped, altered, incomplete, text])
def test_damaged_backups_are_refused(source: Path, damage: Callable[[Path], None]) -> None:
    """The error names the file."""
    damage(source)
    with pytest.raises(InputError, match=source.name), contents.unpacked(source):
        pass


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a machine without state. Root's rights are not needed to refuse."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return Settings(home=tmp_path / "home")


def refusal(own: Settings, source: Path) -> ImsError:
    """Why a restore is refused."""
    with pytest.raises(ImsError) as raised:
        restoring.restore(own, source, print)
    return raised.value


def test_newer_version_is_refused(own: Settings, tmp_path: Path) -> None:
    """Its databases may have a schema that this version does not know."""
    assert "99.0.0" in str(refusal(own, packed(tmp_path, "99.0.0")))
    assert not own.home.exists()


@pytest.mark.parametrize("name", ["ims.db", "secrets/credentials.json", "postgres/data/PG_VERSION"])
def test_state_is_never_replaced(own: Settings, source: Path, name: str) -> None:
    """A restore does not change the state of a service."""
    found = own.home / name
    found.parent.mkdir(parents=True)
    found.write_text("precious")
    assert isinstance(refusal(own, source), ConfigurationError)
    assert found.read_text() == "precious"


def test_running_service(own: Settings, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that runs is not restored."""
    monkeypatch.setattr(supervisord, "is_running", lambda _settings: True)
    assert "the service runs" in str(refusal(own, source))


def test_failed_restore_leaves_nothing(own: Settings, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try begins anew."""

    def fail(_settings: Settings, _folder: Path, _say: object) -> None:
        raise InputError("the dump cannot be read")

    monkeypatch.setattr(restoring, "_restore_databases", fail)
    (own.home / "s3").mkdir(parents=True)
    assert "dump" in str(refusal(own, source))
    assert [path.name for path in own.home.iterdir()] == ["s3"]
