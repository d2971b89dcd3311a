"""Lists what was changed in an image, from the upper folder of its overlay."""

from __future__ import annotations

import filecmp
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ims.images.attributes import OVERLAY_PREFIX, extended_attributes
from ims.images.packages import DPKG, Packages, installed_packages
from ims.images.root import UnreadableError, printable
from ims.images.rpm import FOLDERS
from ims.images.tree import VOLATILE, names, walk

FIRST = 20
"""How many names a summary lists."""


class Names(BaseModel):
    """How many names there are, and the first of them."""

    count: int
    first: list[str]


class Changes(BaseModel):
    """A summary of the changes that is short enough for a record. Folders end in a slash.

    Packages are null if they are unknown: a package database of the image cannot be read.
    """

    files_added: Names
    files_changed: Names
    files_removed: Names
    packages_added: Names | None
    packages_removed: Names | None
    packages_upgraded: Names | None


@dataclass(frozen=True)
class Difference:
    """All changes. `unknown` says why the changes of packages are unknown."""

    files_added: list[str] = field(default_factory=list)
    files_changed: list[str] = field(default_factory=list)
    files_removed: list[str] = field(default_factory=list)
    packages_added: list[str] = field(default_factory=list)
    packages_removed: list[str] = field(default_factory=list)
    packages_upgraded: list[str] = field(default_factory=list)
    unknown: str = ""

    def summary(self) -> Changes:
        """The number of names in each list, and the first of them."""
        named = {name: Names(count=len(found), first=found[:FIRST]) for name, found in self._known().items()}
        return Changes(**{**dict.fromkeys(Changes.model_fields), **named})

    def lines(self) -> Iterator[str]:
        """All changes as lines of text: `file added: /etc/motd`, `package upgraded: bash:amd64 5.1 -> 5.2`."""
        for name, found in self._known().items():
            kind, _, what = name.partition("_")
            yield from (f"{kind.removesuffix('s')} {what}: {item}" for item in found)
        if self.unknown:
            yield f"packages unknown: {self.unknown}"

    def _known(self) -> dict[str, list[str]]:
        lists = {name: found for name, found in vars(self).items() if isinstance(found, list)}
        return {name: found for name, found in lists.items() if not (self.unknown and name.startswith("packages_"))}


def compare(lower: Path, upper: Path, merged: Path) -> Difference:
    """The changes that lead from the image root `lower` to `merged`, as recorded in `upper`.

    A folder of `upper` may hide the one below it, which only the kernel can tell; `merged` shows it.

    A file whose content and attributes are the same as before did not change. Neither did a folder only because files
    in it changed.
    """
    found = Difference()
    for name in names(upper):
        if name in VOLATILE:
            # The folder itself may have changed. Its content does not count.
            _compare_folder_only(found, lower / name, upper / name, f"/{name}")
        else:
            _run(_compare(found, _present(lower / name), upper / name, merged / name, f"/{name}"))
    if any(os.path.lexists(upper / path) for path in (DPKG, *FOLDERS)):
        try:
            _compare_packages(found, installed_packages(lower), installed_packages(merged))
        except UnreadableError as error:
            return replace(found, unknown=error.reason)
    return found


def _present(path: Path) -> Path | None:
    return path if os.path.lexists(path) else None


_Comparison = Iterator[Any]
"""Compares a path, and yields the comparison of each path in it. Folders can be nested deeper than Python recurses."""


def _run(comparison: _Comparison) -> None:
    """Compare a path and everything in it."""
    running = [comparison]
    while running:
        below = next(running[-1], None)
        if below is None:
            running.pop()
        else:
            running.append(below)


def _compare(found: Difference, lower: Path | None, upper: Path, merged: Path, name: str) -> _Comparison:
    """Compare one path."""
    now = upper.lstat()
    if stat.S_ISCHR(now.st_mode) and now.st_rdev == 0:
        found.files_removed.extend(_tree(lower, name))
    elif stat.S_ISDIR(now.st_mode):
        yield _compare_folder(found, lower, upper, merged, name)
    elif lower is None:
        found.files_added.append(printable(name))
    elif stat.S_ISDIR(lower.lstat().st_mode):
        found.files_removed.extend(_tree(lower, name))
        found.files_added.append(printable(name))
    elif _attributes(lower) != _attributes(upper) or not _same_content(lower, upper):
        found.files_changed.append(printable(name))


def _compare_folder(found: Difference, lower: Path | None, upper: Path, merged: Path, name: str) -> _Comparison:
    if lower is not None and not stat.S_ISDIR(lower.lstat().st_mode):
        found.files_removed.append(printable(name))
        lower = None
    if lower is None:
        found.files_added.append(printable(name) + "/")
    elif _attributes(lower) != _attributes(upper):
        found.files_changed.append(printable(name) + "/")
    children = names(upper)
    for child in children:
        below = None if lower is None else _present(lower / child)
        yield _compare(found, below, upper / child, merged / child, f"{name}/{child}")
    if lower is not None:
        for child in sorted(set(names(lower)) - set(children) - set(names(merged))):
            found.files_removed.extend(_tree(lower / child, f"{name}/{child}"))


def _compare_folder_only(found: Difference, lower: Path, upper: Path, name: str) -> None:
    if not lower.is_dir():
        found.files_added.append(name + "/")
    elif not upper.is_dir() or _attributes(lower) != _attributes(upper):
        found.files_changed.append(name + "/")


def _tree(path: Path | None, name: str) -> Iterator[str]:
    """The path of a file, or the paths of a folder and everything in it."""
    if path is None:
        return
    yield printable(name) + ("/" if _is_folder(path) else "")
    if _is_folder(path):
        for child in walk(path):
            yield printable(f"{name}/{child.relative_to(path)}") + ("/" if _is_folder(child) else "")


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _attributes(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    xattrs = {name: value for name, value in extended_attributes(path).items() if not name.startswith(OVERLAY_PREFIX)}
    own = (status.st_mode, status.st_uid, status.st_gid, xattrs)
    if stat.S_ISDIR(status.st_mode):
        return own
    return (*own, status.st_size, status.st_mtime_ns, status.st_rdev)


def _same_content(first: Path, second: Path) -> bool:
    if first.is_symlink():
        return first.readlink() == second.readlink()
    return not first.is_file() or filecmp.cmp(first, second, shallow=False)


def _compare_packages(found: Difference, before: Packages, after: Packages) -> None:
    found.packages_added.extend(f"{name} {after[name]}" for name in after if name not in before)
    found.packages_removed.extend(f"{name} {before[name]}" for name in before if name not in after)
    found.packages_upgraded.extend(
        f"{name} {before[name]} -> {after[name]}" for name in after if name in before and before[name] != after[name]
    )
