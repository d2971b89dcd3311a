"""Extended attributes of files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

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
