"""Markers: the files with which the user of a shell ends it."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path

COMPLETE = "complete"
OUTCOMES = {"failed": "fail", COMPLETE: "complete"}
"""The outcome of the shell by the name of the marker."""
REFUSAL = "refusal"
"""The file beside the markers of the runtime with the reason why the shell stays open."""


def read_marker(folder: Path) -> str | None:
    """The outcome that the user chose, `complete` or `fail`. Returns None if there is no marker in `folder`.

    A link counts as a marker and is not followed. The whiteout of an overlay, which stands for a removed file, does
    not count.
    """
    for name, outcome in OUTCOMES.items():
        with suppress(OSError):  # the user may have put something else in the place of the folder
            if not stat.S_ISCHR((folder / name).lstat().st_mode):
                return outcome
    return None
