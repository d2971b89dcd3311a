"""Restoring a backup on a machine that has no state of the service yet."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from packaging.version import Version

from ims import __version__, supervisord
from ims.backup import contents
from ims.backup.contents import Contents, ExpectedObject, Objects
from ims.errors import ConfigurationError, InputError, MissingError
from ims.removal import remove
from ims.settings import Settings
from ims.stack import lifecycle, postgres
from ims.stack.environment import object_store
from ims.stack.lifecycle import Say
from ims.storage.objects import ObjectName, ObjectStore


def restore(settings: Settings, source: Path, say: Say) -> Contents:
    """Restore the databases and the secrets of a backup; returns its description. S3 is not touched.

    If that fails, nothing of it is left. Raises ConfigurationError if this user is not root, the service runs, or there
    is state of a service; InputError if the backup cannot be used.
    """
    if os.geteuid() != 0:
        raise ConfigurationError("the state of the service belongs to root", "Run it again as root")
    if supervisord.is_running(settings):
        raise ConfigurationError("the service runs", "Restore on another machine, or with another IMS_HOME")
    for path in _state(settings):
        if path.exists():
            raise ConfigurationError(f"{path} exists: this machine has state already", "Move it away, then try again")
    say("reading the backup")
    with contents.unpacked(source) as (folder, description):
        if Version(description.version) > Version(__version__):
            raise InputError(
                f"{source} was written by version {description.version}, this is {__version__}",
                f"Install version {description.version} or later",
            )
        with _all_or_nothing(settings):
            _restore_home(settings, folder / contents.HOME)
            _restore_databases(settings, folder, say)
    return description


def damaged_objects(settings: Settings, source: Path) -> Iterator[tuple[str, str]]:
    """The objects of a backup that S3 does not hold as they were, each with what is wrong.

    Those that were missing when the backup was made are left out.
    """
    with contents.unpacked(source) as (folder, _):
        expected = Objects.model_validate_json((folder / contents.OBJECTS).read_text())
    store = object_store(settings)
    for item in expected.objects:
        if item.size is not None and (fault := _fault(store, item)):
            yield item.address, fault


def _fault(store: ObjectStore, expected: ExpectedObject) -> str | None:
    try:
        found = store.stat(ObjectName.parse(expected.address))
    except MissingError:
        return "missing"
    if found.size != expected.size:
        return f"has {found.size} bytes instead of {expected.size}"
    # The etag of an object in parts depends on their sizes, which a copy may change.
    if found.etag != expected.etag and "-" not in f"{found.etag}{expected.etag}":
        return "has other content"
    return None


def _state(settings: Settings) -> tuple[Path, ...]:
    """What a restore creates."""
    own = (settings.secrets, postgres.data_folder(settings), settings.home / "site-root-ca.pem")
    return own if settings.database_url else (*own, settings.home / "ims.db")


@contextmanager
def _all_or_nothing(settings: Settings) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for path in _state(settings):
            remove(path)
        raise


def _restore_home(settings: Settings, saved: Path) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    shutil.copytree(saved, settings.home, dirs_exist_ok=True)
    settings.secrets.chmod(0o700)
    for secret in settings.secrets.rglob("*"):
        secret.chmod(0o700 if secret.is_dir() else 0o600)


def _restore_databases(settings: Settings, folder: Path, say: Say) -> None:
    lifecycle.prepare_home(settings)
    say("restoring Airflow's database")
    with postgres.running(settings):
        postgres.load(settings, postgres.url(settings), folder / contents.AIRFLOW)
    say("restoring the records")
    if settings.database_url:
        postgres.load(settings, settings.database_url, folder / contents.RECORDS_DUMP)
        return
    target = settings.home / "ims.db"
    shutil.copy(folder / contents.RECORDS_SQLITE, target)
    target.chmod(0o600)
