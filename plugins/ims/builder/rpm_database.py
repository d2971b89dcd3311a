"""Keeps kiwi from leaving a second package database in an image whose rpm uses another format than the builder's.

Whenever kiwi starts, the rpm of the builder initializes a database in the image root. In the first phase, kiwi has the
rpm of the image convert it. In the second phase, it would stay empty beside the converted one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ims.images import rpm
from ims.images.root import UnreadableError, resolve_inside

log = logging.getLogger(__name__)

_PLACE, _LINK = "var/lib", "rpm"
"""kiwi links the place where the builder keeps the database to the one in which the image does."""
_SIDE_FILES = ("", "-journal", "-shm", "-wal")


@contextmanager
def single_database(root: Path) -> Iterator[None]:
    """Remove the database that is added in the context to an image root which has one, if it is empty."""
    before, had_link = _databases(root), _link(root) is not None
    yield
    if not before:
        return
    for database in _databases(root):
        if database.format == "sqlite" and database not in before and _is_empty(database):
            for ending in _SIDE_FILES:
                database.path.with_name(database.path.name + ending).unlink(missing_ok=True)
    if (link := _link(root)) is not None and not had_link:
        link.unlink()


def _databases(root: Path) -> list[rpm.RpmDatabase]:
    try:
        return rpm.find_databases(root)
    except UnreadableError as error:
        log.warning("the package databases of the image are not checked: %s", error)
        return []


def _link(root: Path) -> Path | None:
    folder = resolve_inside(root, _PLACE)
    return folder / _LINK if folder is not None and (folder / _LINK).is_symlink() else None


def _is_empty(database: rpm.RpmDatabase) -> bool:
    try:
        return not rpm.query(database, "%{NAME}")
    except UnreadableError:
        return False
