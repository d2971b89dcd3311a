"""Extended attributes of files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from ims.images.root import printable
from ims.images.tree import walk

OVERLAY_PREFIX = "trusted.overlay."
"""The prefix of the extended attributes that the overlay itself uses."""


def extended_attributes(path: Path) -> dict[str, bytes]:
    """The extended attributes of a file, including those of the overlay. Links are not followed."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:  # the squashfs has none
            return {}
        raise
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def files_with_trusted_attributes(lower: Path | None, upper: Path) -> Iterator[str]:
    """The paths in an image of files with attributes that only root of the host can read, so that no box packs them.

    A file of `upper` takes the place of that of `lower`. None: the files of `lower` are known to have none.
    """
    for root in (upper, lower) if lower is not None else (upper,):
        for path in (root, *walk(root)):
            name = path.relative_to(root)
            if _has_trusted_attributes(path) and (root == upper or not os.path.lexists(upper / name)):
                yield printable(os.path.normpath(f"/{name}"))


def _has_trusted_attributes(path: Path) -> bool:
    names = extended_attributes(path)
    return any(name.startswith("trusted.") and not name.startswith(OVERLAY_PREFIX) for name in names)
