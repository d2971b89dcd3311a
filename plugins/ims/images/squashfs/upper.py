"""The upper folder of an overlay, which a layer is made of."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ims.images.attributes import OVERLAY_PREFIX, extended_attributes
from ims.images.squashfs.image import Linked
from ims.images.squashfs.superblock import SpliceError
from ims.images.tree import walk
from ims.sandbox.overlay import UPPER

MAX_FOLDERS = 10_000
_OPAQUE = f"{OVERLAY_PREFIX}opaque"
# A folder that was moved, and a file whose content is that of the base.
_UNSUPPORTED = {f"{OVERLAY_PREFIX}redirect", f"{OVERLAY_PREFIX}metacopy"}


def opaque_folders(changes: Path) -> list[bytes]:
    """The paths of the folders that hide those of the base. `changes` are the folders of the overlay.

    Only root of the host can read the attributes that say so. Raises SpliceError if the layer would not contain all
    changes.
    """
    upper = changes / UPPER
    found = [os.fsencode(path.relative_to(upper)) for path in walk(upper) if _is_opaque(path)]
    if len(found) > MAX_FOLDERS:
        raise SpliceError(f"{len(found)} folders were replaced")
    return found


def store_all_names(linked: Iterable[Linked], lower: Path, root: Path) -> None:
    """Has the overlay store every name of the files of a base that were changed through another of their names.

    Until then, such a name is only in its index, which no box can read. `linked` are the names of files of the base
    that have several, `lower` is the mounted base, `root` the overlay. Raises SpliceError if a file cannot be read.
    """
    _store(((folder.path, name) for folder, name, _ in linked), lower, root)


def store_names(lower: Path, root: Path) -> None:
    """Like `store_all_names`, for a base that is a folder or that is mounted at `lower`."""
    _store(_linked_names(lower), lower, root)


def _linked_names(lower: Path) -> Iterator[tuple[bytes, bytes]]:
    """The names of files that have several, each after the path of its folder."""
    for path in walk(lower):
        status = path.lstat()
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            yield os.path.split(os.fsencode(path.relative_to(lower)))


def _store(found: Iterable[tuple[bytes, bytes]], lower: Path, root: Path) -> None:
    real = os.fsencode(os.path.realpath(root))
    try:
        for folder, name in found:
            path = os.path.join(real, folder)  # noqa: PTH118  (bytes)
            if os.path.realpath(path) == path.rstrip(b"/"):  # no link has replaced a folder
                _store_name(os.path.join(os.fsencode(lower), folder, name), os.path.join(path, name))  # noqa: PTH118
    except OSError as error:
        raise SpliceError(f"a file with several names cannot be read: {error}") from None


def _store_name(old: bytes, new: bytes) -> None:
    """Changes nothing about a file that differs from that of the base, so that the overlay stores its name."""
    with suppress(FileNotFoundError, NotADirectoryError):
        status = os.lstat(new)
        if status.st_ctime_ns != os.lstat(old).st_ctime_ns:  # only the kernel can set this time
            os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _is_opaque(path: Path) -> bool:
    attributes = extended_attributes(path)
    if found := _UNSUPPORTED & attributes.keys():
        raise SpliceError(f"the overlay has the attribute {min(found)}")
    if _OPAQUE in attributes and attributes[_OPAQUE] != b"y":
        raise SpliceError("the overlay has an unknown kind of opaque folder")
    return _OPAQUE in attributes and stat.S_ISDIR(path.lstat().st_mode)
