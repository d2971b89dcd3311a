"""Keeps what the sandbox read in a recipe: a plan reads each recipe once, not every night.

What is kept belongs to the bytes of the archive and to everything else that decides what is read. So it is only as
trustworthy as the recipe itself, and another recipe never sees it. Recipes with secrets or logins are not kept.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from ims import cache
from ims.builder import programs
from ims.recipes.expansion import kiwi_9_version
from ims.recipes.reading import ReadArchive, RecipeArchive


def keep(sha256: str, packed: RecipeArchive, read: Callable[[], ReadArchive]) -> ReadArchive:
    """What was read before in an archive with this SHA-256; otherwise calls `read` and keeps the result."""
    path = cache.folder(cache.READINGS) / f"{_key(sha256, packed)}.json"
    try:
        found = ReadArchive.model_validate_json(path.read_bytes())
        os.utime(path)  # the sweep removes the least recently used files first
    except (OSError, ValueError):
        found = read()
        if not found.recipe.description.logins:
            _save(path, found)
    return found


def _key(sha256: str, packed: RecipeArchive) -> str:
    """A digest of all that decides what is read."""
    given = packed.model_dump_json(exclude={"archive", "folder"})
    readers = sorted(programs.versions(programs.NO_MANAGER).items())
    return hashlib.sha256(repr((sha256, given, readers, kiwi_9_version())).encode()).hexdigest()


def _save(path: Path, found: ReadArchive) -> None:
    """Write a file that plans which run at the same time see whole or not at all. Pods share no cache."""
    partial = path.with_name(f"{path.name}.{uuid4()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch(mode=0o600)
        partial.write_text(found.model_dump_json())
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink()
