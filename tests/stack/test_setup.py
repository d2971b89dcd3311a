"""`scripts/setup` fails early, before it changes anything."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that the script reads."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(PROJECT / "scripts", folder / "scripts")
    return folder


def test_unknown_package(checkout: Path) -> None:
    """A package that does not exist is named before any is installed."""
    with (checkout / "scripts" / "packages.txt").open("a") as packages:
        packages.write("sl\nno-such-package-anywhere\n")
    done = subprocess.run([checkout / "scripts" / "setup"], capture_output=True, text=True, check=False)
    assert done.returncode == 69
    assert "not available: sl no-such-package-anywhere; nothing was installed" in done.stderr
    assert not (checkout / ".venv").exists()
    assert subprocess.run(["dpkg-query", "-W", "sl"], capture_output=True, check=False).returncode != 0


def test_not_root() -> None:
    """A user other than root gets one line."""
    setup = (PROJECT / "scripts" / "setup").read_text()
    done = subprocess.run(
        ["bash", "-c", setup, "/usr/bin/setup"], user="nobody", cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 78
    assert done.stderr == "error: images are built as root: run this as root\n"
