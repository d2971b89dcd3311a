"""Derives the list of the files of a customized image from that of the old image and the changes.

Nothing that did not change is read. The list is the one that `files.write_files` writes, byte for byte.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ims.errors import ImsError
from ims.images.files import describe_file, new_buffer, read_lines, write_lines
from ims.images.tree import walk
from ims.sandbox.overlay import WORK

_PREFIX = b'{"path":"'
_CHUNK = 1024 * 1024
_Key = list[str]
"""The names in a path. Keys have the order of the files in a list."""


class UnderivableError(ImsError):
    """A list must be computed from the files."""


@dataclass(frozen=True)
class Layer:
    """The upper folder of an overlay, what the overlay shows, and the folders that hide those of the old image."""

    upper: Path
    merged: Path
    opaque: Collection[bytes]


@dataclass(frozen=True)
class _Change:
    """The new line of a path; None if the path was removed. `hides` what the old image has below it."""

    key: _Key
    line: bytes | None
    hides: bool


def has_changed_links(changes: Path) -> bool:
    """Whether a file with several names was changed: the upper folder does not have all of them.

    Only root of the host can tell. `changes` are the folders of the overlay.
    """
    index = changes / WORK / "index"
    return index.is_dir() and any(not path.name.startswith("#") for path in index.iterdir())


def derive_files(old: Path, layer: Layer, target: Path, excluded: Collection[str]) -> None:
    """List the files of an image, except the top-level ones in `excluded`. `old` is the list of the old image.

    Raises UnderivableError if a name could be mistaken, InputError if the old list is damaged.
    """
    with old.open("rb") as file:
        lines = read_lines(iter(partial(file.read, _CHUNK), b""), "of the old image")
        write_lines(_merged(lines, _changes(layer, excluded)), target)


def _changes(layer: Layer, excluded: Collection[str]) -> Iterator[_Change]:
    """All changes, in the order of a list."""
    buffer, opaque = new_buffer(), set(layer.opaque)
    for path in walk(layer.upper, excluded, volatile=False):
        relative = path.relative_to(layer.upper)
        name, status = f"/{relative}", path.lstat()
        if not name.isascii() or not name.isprintable() or "\\" in name:
            raise UnderivableError("a path with unusual characters was changed")
        key = name.split("/")
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            yield _Change(key, None, hides=True)
            continue
        line = describe_file(layer.merged / relative, name, buffer)
        yield _Change(key, line, hides=not stat.S_ISDIR(status.st_mode) or os.fsencode(relative) in opaque)


def _merged(old: Iterator[bytes], changes: Iterator[_Change]) -> Iterator[bytes]:
    """The lines of the old list that stay, and those of the changes."""
    change, last, hidden = next(changes, None), list[str](), _Key()
    for line in old:
        key = _key(line)
        while change is not None and change.key <= key:
            if change.line is not None:
                yield change.line
            last = change.key
            if change.hides and not (hidden and last[: len(hidden)] == hidden):
                hidden = last
            change = next(changes, None)
        if key != last and not (hidden and key[: len(hidden)] == hidden):
            yield line
    while change is not None:
        if change.line is not None:
            yield change.line
        change = next(changes, None)


def _key(line: bytes) -> _Key:
    """The key of a line. Raises UnderivableError if it is not one of ours."""
    if not line.startswith(_PREFIX):
        raise UnderivableError("the list of files of the old image has another form")
    # In JSON, a path without a backslash ends at the next quotation mark.
    path = json.loads(line)["path"] if b"\\" in line else line[len(_PREFIX) : line.index(b'"', len(_PREFIX))].decode()
    return str(path).split("/")
