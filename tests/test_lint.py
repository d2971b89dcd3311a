"""Checks of style, types and shell scripts. They are tests, so `make check` and `make test` run them too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SHELL = ("#!/bin/bash", "#!/bin/sh", "#!/usr/bin/env bash")


def scripts() -> list[Path]:
    """The shell scripts of the project, recognized by their first line."""
    candidates = [
        path
        for folder in ("scripts", ".ci", "include", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in ("", ".sh")
    ]
    return sorted(path for path in candidates if path.read_bytes().startswith(tuple(line.encode() for line in SHELL)))


def check(*command: str | Path) -> None:
    """Run a checker; its output explains the failure."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_ruff_check() -> None:
    """The rules are in pyproject.toml."""
    check(BIN / "ruff", "check", ".")


def test_ruff_format() -> None:
    """All files are formatted by ruff."""
    check(BIN / "ruff", "format", "--check", ".")


def test_mypy() -> None:
    """Types are strict, also in tests."""
    check(BIN / "mypy")


@pytest.mark.parametrize("script", scripts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck(script: Path) -> None:
    """The scripts of the project and of the recipes have no known mistakes."""
    check(BIN / "shellcheck", script)


@pytest.mark.parametrize("script", scripts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_script_can_be_run(script: Path) -> None:
    """Every script is executable."""
    assert script.stat().st_mode & 0o111 == 0o111


def test_scripts_are_found() -> None:
    """The search for scripts finds scripts of each kind."""
    names = {str(path.relative_to(ROOT)) for path in scripts()}
    assert names >= {"scripts/setup", ".ci/run", "include/recipes/debian12/config.sh"}
