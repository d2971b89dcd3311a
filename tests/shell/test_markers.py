"""Markers of a shell."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ims.shell.markers import read_marker


@pytest.mark.parametrize(("name", "outcome"), [("complete", "complete"), ("failed", "fail")])
def test_marker(tmp_path: Path, name: str, outcome: str) -> None:
    """A file or a link with the name of a marker."""
    assert read_marker(tmp_path) is None
    (tmp_path / name).symlink_to("/nothing")
    assert read_marker(tmp_path) == outcome
    (tmp_path / name).unlink()
    (tmp_path / name).touch()
    assert read_marker(tmp_path) == outcome


def test_removed_marker_does_not_count(tmp_path: Path) -> None:
    """The overlay shows a removed file of the image as a whiteout."""
    os.mknod(tmp_path / "complete", stat.S_IFCHR, os.makedev(0, 0))
    assert read_marker(tmp_path) is None


def test_missing_folder(tmp_path: Path) -> None:
    """The folder exists only after a session has used it."""
    assert read_marker(tmp_path / "tmp") is None


def test_something_else_in_the_place_of_the_folder(tmp_path: Path) -> None:
    """The user of a jailed shell can replace /tmp."""
    (tmp_path / "tmp").touch()
    assert read_marker(tmp_path / "tmp") is None
    (tmp_path / "loop").symlink_to("loop")
    assert read_marker(tmp_path / "loop") is None
