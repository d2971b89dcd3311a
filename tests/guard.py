"""Makes a unit test fail that needs more than Python: a program of the system, or files outside its folders.

An audit hook sees what a test starts and writes. `make check` runs unit tests as an ordinary user on a machine that has
nothing but Python, so a test that needs more must carry the mark `system`.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Airflow imports it late, and its first import starts a program.
importlib.import_module("croniter")

ROOT = Path(__file__).parents[1]
PROGRAMS = {"bash", "cat", "du", "echo", "env", "git", "make", "sh", "sleep", "tar", "true"}
"""The programs that every developer's machine has."""
FOLDERS = tuple(f"{Path(folder).resolve()}/" for folder in (ROOT, tempfile.gettempdir(), "/dev", "/proc/self"))
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

_installed = False
_armed_thread: int | None = None


class NotAUnitTestError(AssertionError):
    """A test without the mark `system` needs the system."""


@contextmanager
def armed() -> Iterator[None]:
    """Raise NotAUnitTestError in code of this thread that starts a program of the system or writes outside FOLDERS."""
    global _installed, _armed_thread
    if not _installed:
        sys.addaudithook(_audit)  # stays until the process ends
        _installed = True
    _armed_thread = threading.get_ident()
    try:
        yield
    finally:
        _armed_thread = None


def check_stack() -> None:
    """Raise NotAUnitTestError if a unit test runs: only tests with one of STACK_FIXTURES can have the stack."""
    if _armed_thread == threading.get_ident():
        raise NotAUnitTestError("a test that needs the stack must use one of STACK_FIXTURES in tests/conftest.py")


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _armed_thread is None or _armed_thread != threading.get_ident():
        return
    if event == "subprocess.Popen":
        _check_program(os.fsdecode(arguments[0]))
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
        _check_file(arguments[0])


def _check_program(program: str) -> None:
    path = Path(program)
    if path.name not in PROGRAMS and not path.is_relative_to(sys.prefix) and not path.is_relative_to(ROOT):
        if path.is_absolute() and _is_allowed(program):
            return
        raise NotAUnitTestError(f"a test that starts {program} needs the mark `system`")


def _check_file(path: object) -> None:
    if isinstance(path, str | bytes | os.PathLike) and not _is_allowed(os.fsdecode(path)):
        raise NotAUnitTestError(f"a test that writes {path!r} needs the mark `system`")


def _is_allowed(path: str) -> bool:
    return os.path.realpath(path).startswith(FOLDERS)
