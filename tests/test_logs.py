"""Log levels on their way from a step to its task."""

from __future__ import annotations

import logging

import pytest

from ims.logs import LevelFormatter, parse_line


def written(level: int, message: str) -> list[str]:
    """The lines that a step prints for a record."""
    record = logging.LogRecord("ims", level, __file__, 1, message, (), None)
    return LevelFormatter().format(record).split("\n")


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL])
def test_level_survives(level: int) -> None:
    """Each line of a message keeps it."""
    assert [parse_line(line) for line in written(level, "one\ntwo")] == [(level, "one"), (level, "two")]


def test_information_has_no_prefix() -> None:
    """Most lines are information, and most are read by people."""
    assert written(logging.INFO, "packing the rootfs") == ["packing the rootfs"]


@pytest.mark.parametrize("line", ["", "Error: no such file", "ERRORS: 3", "  ERROR: indented", "NOTICE: x"])
def test_lines_of_programs(line: str) -> None:
    """Only the exact prefix is one."""
    assert parse_line(line) == (logging.INFO, line)
