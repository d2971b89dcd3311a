"""Which files belong to packages that were installed or removed: the package manager brings them again."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from ims.images import rpm
from ims.images.packages import DPKG, MAX_STATUS
from ims.images.root import read_inside

log = logging.getLogger(__name__)

MAX_FILES = 1_000_000
MAX_LIST = 64 * 1024 * 1024
"""Bytes of the list of the files of a package."""
_INFO = "var/lib/dpkg/info"
_CONFIGURATION = re.compile(r"^ (/\S+) ([0-9a-f]{32})\b", re.MULTILINE)
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_FORM = r"%{NAME}.%{ARCH}\n[\t%{FILENAMES}\t%{FILEDIGESTS}\t%{FILEMODES:octal}\n]"


class Owned(NamedTuple):
    """What a package manager knows of a file: its digest and its mode. Empty if it does not know it."""

    digest: str = ""
    mode: str = ""


def owned_files(root: Path, labels: Collection[str]) -> dict[str, Owned]:
    """The files of packages by their paths. `labels` are those of the packages, see `ims.images.packages.label`.

    Files of packages whose files are not known are missing. So are those beyond `MAX_FILES`. Raises UnreadableError if
    a database cannot be read.
    """
    names = {name: _real_name(root, name) for name in _MERGED}
    found: dict[str, Owned] = {}
    for path, owned in _all_files(root, labels):
        _, first, *rest = path.split("/") if path.startswith("/") else ("", "", "")
        found["/" + "/".join([names.get(first, first), *rest])] = owned
        if len(found) >= MAX_FILES:
            log.warning("the packages have more than %d files", MAX_FILES)
            break
    return found


def _all_files(root: Path, labels: Collection[str]) -> Iterator[tuple[str, Owned]]:
    deb = sorted(label for label in labels if ":" in label)
    if deb:
        configuration = dict(_CONFIGURATION.findall(read_inside(root, DPKG, MAX_STATUS) or ""))
        for label in deb:
            yield from _deb_files(root, label, configuration)
    if len(deb) < len(labels):
        yield from _rpm_files(root, labels)


def _deb_files(root: Path, label: str, configuration: dict[str, str]) -> Iterator[tuple[str, Owned]]:
    for name in (label, label.partition(":")[0]):
        if (paths := read_inside(root, f"{_INFO}/{name}.list", MAX_LIST)) is not None:
            sums = (read_inside(root, f"{_INFO}/{name}.md5sums", MAX_LIST) or "").split("\n")
            digests = {
                f"/{path}": digest for digest, _, path in (line.partition("  ") for line in sums)
            } | configuration
            yield from ((path, Owned(digests.get(path, ""))) for path in paths.split("\n"))
            return


def _rpm_files(root: Path, labels: Collection[str]) -> Iterator[tuple[str, Owned]]:
    for database in rpm.find_databases(root):
        is_wanted = False
        for line in rpm.query(database, _FORM).split("\n"):
            label, *fields = line.split("\t")
            if label:
                is_wanted = label in labels
            elif is_wanted and len(fields) == 3:
                path, digest, mode = fields
                yield path, Owned(digest, mode[-4:])


def _real_name(root: Path, name: str) -> str:
    """The folder that a top-level folder is a link to: packages still name /bin where it is /usr/bin."""
    path = root / name
    return str(path.readlink()).strip("/") if path.is_symlink() else name
