"""Style, types and shell scripts: `make test` is the one command that finds everything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SHELL = ("#!/bin/bash", "#!/bin/sh", "#!/usr/bin/env bash")


def scripts() -> list[Path]:
    """The shell scripts of the project, by their first lines."""
    candidates = [
        path
        for folder in ("scripts", ".ci", "include", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in ("", ".sh")
    ]
    return sorted(path for path in candidates if path.read_bytes().startswith(tuple(line.encode() for line in SHELL)))


def check(*command: str | Path) -> None:
    """Run a checker; what it has to say is the failure's text."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_ruff_check() -> None:
    """Rules of pyproject.toml."""
    check(BIN / "ruff", "check", ".")


def test_ruff_format() -> None:
    """One layout."""
    check(BIN / "ruff", "format", "--check", ".")


def test_mypy() -> None:
    """Strict types, of the tests too."""
    check(BIN / "mypy")


@pytest.mark.parametrize("script", scripts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck(script: Path) -> None:
    """Scripts of the project and of the recipes."""
    check(BIN / "shellcheck", script)


@pytest.mark.parametrize("script", scripts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_script_can_be_run(script: Path) -> None:
    """It has the mode and a first line that the system has."""
    assert script.stat().st_mode & 0o111 == 0o111


def test_scripts_are_found() -> None:
    """The list above is not empty by mistake."""
    names = {str(path.relative_to(ROOT)) for path in scripts()}
    assert names >= {"scripts/setup", ".ci/run", "include/recipes/debian12/config.sh"}
