"""Reads the package databases of rpm in an image root, whatever their format, without changing them.

The rpm of this machine reads sqlite and bdb. A database of the format ndb is converted to sqlite first. What is read
comes from strangers, so callers run this in a box.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

from ims.images.ndb import read_headers
from ims.images.root import UnreadableError, printable, resolve_inside

Format = Literal["sqlite", "ndb", "bdb"]
FOLDERS = ("usr/lib/sysimage/rpm", "var/lib/rpm", "usr/share/rpm")
"""Where distributions keep the database: SUSE and Fedora, older systems, systems that OSTree updates."""
_FILES: dict[str, Format] = {"rpmdb.sqlite": "sqlite", "Packages.db": "ndb", "Packages": "bdb"}
_COMPANIONS = ("-wal", "-journal")
"""Files beside a database of sqlite that hold its last changes."""
MAX_DATABASE = 1024**3
"""Bytes of a database."""
MAX_OUTPUT = 256 * 1024 * 1024
"""Bytes that rpm may print."""
QUERY_SECONDS = 300
_SQLITE = "rpmdb.sqlite"
_SHOWN = 300


class RpmDatabase(NamedTuple):
    """A database: the file, the folder of the image that it is in, and its format."""

    path: Path
    folder: str
    format: Format


def find_databases(root: Path) -> list[RpmDatabase]:
    """The databases of rpm in an image root: usually one or none. Empty files are none.

    Raises UnreadableError if one is not a file.
    """
    found: dict[Path, RpmDatabase] = {}
    for folder in FOLDERS:
        for name, kind in _FILES.items():
            path = resolve_inside(root, f"{folder}/{name}")
            if path is None:
                continue
            if not path.is_file():
                raise UnreadableError(f"/{folder}/{name} is not a file")
            if path.stat().st_size:
                found.setdefault(path, RpmDatabase(path, folder, kind))
    return list(found.values())


def query(database: RpmDatabase, line_format: str) -> str:
    """What rpm prints about all packages of a database, with a format in the syntax of its `--queryformat`.

    Raises UnreadableError if the database is damaged, even if rpm can read some of its packages.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            _copy(database, Path(folder))
            return _run(Path(folder), "--query", "--all", "--queryformat", line_format)
    except OSError as error:
        reason = f"it needs too much space: {error.strerror}"
    except UnreadableError as error:
        reason = error.reason
    raise UnreadableError(f"the {database.format} database of rpm in /{database.folder} cannot be read: {reason}")


def _copy(database: RpmDatabase, folder: Path) -> None:
    """Copy a database to a folder, in a format that rpm reads. SQLite writes even when it only reads."""
    companions = [database.path.with_name(database.path.name + ending) for ending in _COMPANIONS]
    files = [database.path, *(path for path in companions if path.is_file() and not path.is_symlink())]
    if (size := sum(file.stat().st_size for file in files)) > MAX_DATABASE:
        raise UnreadableError(f"it has {size} bytes, more than {MAX_DATABASE}")
    if database.format == "ndb":
        _convert(database.path, folder)
        return
    for file in files:
        shutil.copyfile(file, folder / file.name)


def _convert(source: Path, folder: Path) -> None:
    """Write a database of the format sqlite with the packages of one of the format ndb."""
    _run(folder, "--initdb")
    try:
        with closing(sqlite3.connect(folder / _SQLITE)) as database, database:
            database.executemany("INSERT INTO Packages VALUES (?, ?)", read_headers(source))
    except sqlite3.Error as error:
        raise UnreadableError(f"its packages cannot be copied: {error}") from None


def _run(folder: Path, *arguments: str) -> str:
    """Run rpm with the database in a folder; returns its output. rpm also ends with 0 if it skips damaged packages."""
    # The limit of file sizes ends rpm if a hostile database makes it print without end.
    command = ["prlimit", f"--fsize={MAX_DATABASE}", "--", "rpm", "--dbpath", str(folder), *arguments]
    environment = {**os.environ, "LC_ALL": "C"}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            done = subprocess.run(
                command, stdout=output, stderr=errors, env=environment, check=False, timeout=QUERY_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise UnreadableError(f"rpm took more than {QUERY_SECONDS} s") from None
        errors.seek(0)
        message = errors.read(1024 * 1024).decode(errors="replace")
        failures = [line.removeprefix("error: ") for line in message.splitlines() if line.startswith("error: ")]
        if failures or done.returncode != 0:
            what = failures[0] if failures else f"rpm ended with exit code {done.returncode}"
            raise UnreadableError(printable(what[:_SHOWN]))
        if output.tell() > MAX_OUTPUT:
            raise UnreadableError(f"rpm printed more than {MAX_OUTPUT} bytes")
        output.seek(0)
        return output.read().decode(errors="replace")
