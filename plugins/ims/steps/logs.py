"""The log levels of a step, which its task reads from prefixes of the lines that the step prints.

A line without a prefix has the level INFO. Airflow reads the same prefixes in the logs of pods.
"""

from __future__ import annotations

import logging
import re

from ims.masking import masked

_PREFIX = re.compile(r"(DEBUG|WARNING|ERROR|CRITICAL): ")


class LevelFormatter(logging.Formatter):
    """Writes the message without secrets, after its level if that is not INFO."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a record. Each line of a message gets the prefix."""
        text = masked(super().format(record))
        if record.levelno == logging.INFO:
            return text
        return "\n".join(f"{record.levelname}: {line}" for line in text.splitlines())


def parse_line(line: str) -> tuple[int, str]:
    """The level and the message of a line that a step printed."""
    match = _PREFIX.match(line)
    return (logging.INFO, line) if match is None else (logging.getLevelNamesMapping()[match[1]], line[match.end() :])
