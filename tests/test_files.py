"""Writing files atomically."""

from __future__ import annotations

from pathlib import Path

import pytest

from ims.files import replacing, write_atomically, write_private


def test_content_replaces_the_old_one(tmp_path: Path) -> None:
    """Nothing else is left in the folder, even if an earlier try left a temporary file."""
    path = tmp_path / "file.json"
    (tmp_path / "file.json.partial").write_text("an earlier try that wrote more")
    for text in ("one", "two"):
        write_atomically(path, text)
        assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_private_file(tmp_path: Path) -> None:
    """Only its owner can read it, even if others could read the file before."""
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.stat().st_mode & 0o777 == 0o600


def test_error_leaves_the_old_content(tmp_path: Path) -> None:
    """The file is replaced only at the end."""
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path) as partial:
        (partial / "no folder").write_text("new")
    assert path.read_text() == "old"
