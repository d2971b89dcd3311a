"""The upper folder of an overlay, which a layer is made of."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ims.images.attributes import OVERLAY_PREFIX, extended_attributes
from ims.images.squashfs.superblock import SpliceError
from ims.images.tree import walk
from ims.sandbox.overlay import UPPER, WORK

MAX_FOLDERS = 10_000
_OPAQUE = f"{OVERLAY_PREFIX}opaque"
# A folder that was moved, and a file whose content is that of the base.
_UNSUPPORTED = {f"{OVERLAY_PREFIX}redirect", f"{OVERLAY_PREFIX}metacopy"}


def opaque_folders(changes: Path) -> list[bytes]:
    """The paths of the folders that hide those of the base. `changes` are the folders of the overlay.

    Only root of the host can read the attributes that say so. Raises SpliceError if the layer would not contain all
    changes.
    """
    index = changes / WORK / "index"
    # The overlay also keeps temporary files there, whose names begin with #. The others stand for linked files.
    if index.is_dir() and any(not path.name.startswith("#") for path in index.iterdir()):
        raise SpliceError("a file that has several names was changed")
    upper = changes / UPPER
    found = [os.fsencode(path.relative_to(upper)) for path in walk(upper) if _is_opaque(path)]
    if len(found) > MAX_FOLDERS:
        raise SpliceError(f"{len(found)} folders were replaced")
    return found


def _is_opaque(path: Path) -> bool:
    attributes = extended_attributes(path)
    if found := _UNSUPPORTED & attributes.keys():
        raise SpliceError(f"the overlay has the attribute {min(found)}")
    if _OPAQUE in attributes and attributes[_OPAQUE] != b"y":
        raise SpliceError("the overlay has an unknown kind of opaque folder")
    return _OPAQUE in attributes and stat.S_ISDIR(path.lstat().st_mode)
