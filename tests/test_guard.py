"""The guard of unit tests. These tests are unit tests, so it guards them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.guard import NotAUnitTestError


def test_stack() -> None:
    """A fixture that starts the stack but is not in STACK_FIXTURES makes its tests fail."""
    from tests.installation import Installation

    with pytest.raises(NotAUnitTestError, match="STACK_FIXTURES"):
        Installation()


def test_program_of_the_system() -> None:
    """A unit test cannot start programs that a developer's machine may lack."""
    with pytest.raises(NotAUnitTestError, match="mksquashfs"):
        subprocess.run(["mksquashfs", "-version"], check=False)


def test_file_outside(tmp_path: Path) -> None:
    """A unit test can write to temporary folders, but not to the folders of the system."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotAUnitTestError, match="/var/lib/file"):
        Path("/var/lib/file").write_text("x")
