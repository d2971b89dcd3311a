"""Making a backup of the service while it runs."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from ims import __version__, supervisord
from ims.backup import contents
from ims.backup.contents import ExpectedObject, Objects
from ims.errors import ConfigurationError, InputError
from ims.files import replacing
from ims.records.database import Database
from ims.records.objects import ObjectReferences
from ims.settings import Settings
from ims.stack import postgres
from ims.stack.environment import object_store
from ims.stack.lifecycle import Say
from ims.stack.starting import start_command
from ims.storage.objects import ObjectName


def back_up(settings: Settings, target: Path, say: Say) -> Objects:
    """Write a backup of the running service to a new file, and return what S3 must hold for it.

    The databases are copied before S3 is listed: an object that a record of the copy needs is in S3 by then. Raises
    ConfigurationError if this user is not root or the service does not run, InputError if the file exists.
    """
    if os.geteuid() != 0:
        raise ConfigurationError("the state of the service belongs to root", "Run it again as root")
    if not supervisord.is_running(settings):
        problem = "the service does not run, so its databases cannot be read"
        raise ConfigurationError(problem, f"Start it: {start_command()}")
    if target.exists():
        raise InputError(f"{target} exists", "Choose another name; a backup never replaces another one")
    created = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="ims-backup-", dir=target.parent) as name:
        folder = Path(name)
        say("copying the records")
        copy = _save_records(settings, folder)
        say("copying Airflow's database")
        postgres.dump(settings, postgres.url(settings), folder / contents.AIRFLOW)
        _save_home(settings, folder / contents.HOME)
        say("listing the objects that the records need")
        objects = _needed(settings, copy)
        (folder / contents.OBJECTS).write_text(objects.model_dump_json())
        say("writing the backup")
        with replacing(target) as partial:
            contents.pack(folder, __version__, created, partial)
    return objects


def _save_records(settings: Settings, folder: Path) -> str:
    """Copies the records; returns the URL of a database with them."""
    if settings.database_url:
        postgres.dump(settings, settings.database_url, folder / contents.RECORDS_DUMP)
        return settings.database_url
    source, target = settings.home / "ims.db", folder / contents.RECORDS_SQLITE
    read_only = f"file:{source}?mode=ro"
    with closing(sqlite3.connect(read_only, uri=True)) as running, closing(sqlite3.connect(target)) as copy:
        running.backup(copy)
    return f"sqlite:///{target}"


def _save_home(settings: Settings, folder: Path) -> None:
    shutil.copytree(settings.secrets, folder / settings.secrets.name)
    if settings.ca_certificate is None:
        shutil.copy2(settings.ca_certificate_path, folder)


def _needed(settings: Settings, records_url: str) -> Objects:
    """The objects that the records in a database need."""
    store, database = object_store(settings), Database(records_url)
    addresses = ObjectReferences(database).all()
    database.engine.dispose()  # SQLite then removes its files beside the database
    buckets = {ObjectName.parse(address).bucket for address in addresses}
    listed = {str(item.name): item for bucket in sorted(buckets) for item in store.objects(bucket)}
    return Objects(
        objects=[
            ExpectedObject(
                address=address,
                size=listed[address].size if address in listed else None,
                etag=listed[address].etag if address in listed else None,
            )
            for address in sorted(addresses)
        ]
    )
