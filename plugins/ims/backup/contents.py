"""The format of a backup: a compressed tar archive, whose first member describes the others.

| Member | Contents |
| --- | --- |
| `backup.json` | `Contents`: the versions, and the SHA-256 of each other member |
| `objects.json` | `Objects`: what S3 must hold for the records |
| `records.db` or `records.dump` | The records: a SQLite database, or what pg_dump wrote |
| `airflow.dump` | Airflow's database, as pg_dump wrote it |
| `home/…` | Files of `IMS_HOME`: the secrets and the certificate of the site |
"""

from __future__ import annotations

import gzip
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel

from ims.errors import InputError
from ims.files import file_digest

FORMAT = 1
DESCRIPTION = "backup.json"
OBJECTS = "objects.json"
RECORDS_SQLITE = "records.db"
RECORDS_DUMP = "records.dump"
AIRFLOW = "airflow.dump"
HOME = "home"


class Contents(BaseModel):
    """What a backup contains. `version` is that of the service, `files` maps each member to its SHA-256."""

    format: int
    version: str
    created: datetime
    files: dict[str, str]


class ExpectedObject(BaseModel):
    """An object that a record refers to. Size and etag are None if it was missing already."""

    address: str
    size: int | None
    etag: str | None


class Objects(BaseModel):
    """What S3 must hold."""

    objects: list[ExpectedObject]


def pack(folder: Path, version: str, created: datetime, target: Path) -> None:
    """Write the files of a folder, and their description, as a backup that only its owner can read."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = {name: file_digest(folder / name) for name in names}
    description = Contents(format=FORMAT, version=version, created=created, files=files)
    (folder / DESCRIPTION).write_text(description.model_dump_json(indent=2))
    target.touch(mode=0o600)
    with tarfile.open(target, "w:gz", compresslevel=3) as archive:
        for name in (DESCRIPTION, *names):
            archive.add(folder / name, name, recursive=False)


@contextmanager
def unpacked(source: Path) -> Iterator[tuple[Path, Contents]]:
    """Yield a temporary folder with the files of a backup, and their description.

    Raises InputError if it is not a backup, or not as it was written.
    """
    with tempfile.TemporaryDirectory(prefix="ims-restore-", dir=source.parent) as name:
        folder = Path(name)
        try:
            with tarfile.open(source) as archive:
                archive.extractall(folder, filter="data")
            contents = Contents.model_validate_json((folder / DESCRIPTION).read_text())
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, FileNotFoundError, ValueError) as error:
            raise InputError(f"{source} is not a whole backup: {error}", "Use another backup") from None
        if contents.format != FORMAT:
            raise InputError(
                f"{source} has the format {contents.format}, but this version reads {FORMAT}",
                f"Restore it with version {contents.version} or later",
            )
        for member, expected in contents.files.items():
            if not (folder / member).is_file() or file_digest(folder / member) != expected:
                raise InputError(f"{source} is damaged: {member} is not as it was written", "Use another backup")
        yield folder, contents
