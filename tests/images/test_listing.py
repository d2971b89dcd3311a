"""Writing the list of files."""

from __future__ import annotations

import os
from pathlib import Path

from ims.images.files import write_files


def test_listing_leaves_no_trace(tmp_path: Path) -> None:
    """The time of access stays: mksquashfs packs the files at the same time, and compares it."""
    (tmp_path / "root").mkdir()
    file = tmp_path / "root/file"
    file.write_text("content")
    os.utime(file, (1, 2))
    write_files(tmp_path / "root", tmp_path / "list", ())
    assert file.stat().st_atime == 1
