"""The packages that builds of a lineage download once.

Programs of a build can write to its cache, and anybody can push a recipe of the same lineage. Package managers trust
what they find there: apt compares only sizes. So a build finds nothing in its cache but packages whose checksums the
indexes of its repositories state.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ims import cache
from ims.builder.inputs import predicted_checksums
from ims.errors import InputError
from ims.files import is_plain
from ims.images.tree import walk
from ims.removal import remove
from ims.workspace import Workspace

log = logging.getLogger(__name__)

_ALGORITHMS = {40: "sha1", 64: "sha256", 96: "sha384", 128: "sha512"}
"""The algorithm of a checksum by its number of hexadecimal digits."""


@contextmanager
def package_cache(lineage: str, workspace: Workspace) -> Iterator[Path]:
    """Yields the folder in which package managers keep the packages of a build.

    It is that of the lineage, or an empty one of the job: if another job uses the first, since package managers fail if
    two of them share a cache, or if the packages of the build are not known.
    """
    checksums = predicted_checksums(workspace)
    shared = cache.folder(cache.PACKAGES) / lineage
    shared.mkdir(parents=True, exist_ok=True)
    with cache.try_lock(shared.with_suffix(".lock")) as is_locked:
        if is_locked and checksums:
            keep_only(shared, checksums)
        else:
            why = "its packages are not known" if is_locked else "another job uses its package cache"
            log.info("all packages of the recipe are downloaded again: %s", why)
        folder = shared if is_locked and checksums else workspace.package_cache
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def keep_only(folder: Path, checksums: Collection[str]) -> None:
    """Remove all files of a cache but those with these checksums. Raises OSError."""
    try:
        removed = Counter(_remove_unknown(path, checksums) for path in walk(folder))[True]
    except InputError:  # a path is too long: no package manager made it
        remove(folder)
        folder.mkdir()
        return
    if removed:
        log.info("%d files were removed from the package cache: the build needs no such packages", removed)


def _remove_unknown(path: Path, checksums: Collection[str]) -> bool:
    """Remove a file that is no package with one of the checksums; returns whether it was removed."""
    if path.is_dir() and not path.is_symlink():
        return False
    if is_plain(path) and not _digests(path, {len(checksum) for checksum in checksums}).isdisjoint(checksums):
        return False
    remove(path)
    return True


def _digests(path: Path, lengths: Collection[int]) -> set[str]:
    """The digests of a file in hexadecimal, with these numbers of digits."""
    found = set()
    for name in (_ALGORITHMS[length] for length in lengths if length in _ALGORITHMS):
        with path.open("rb") as file:
            found.add(hashlib.file_digest(file, name).hexdigest())
    return found
