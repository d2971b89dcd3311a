"""The log levels of a step, which its task reads from prefixes of the lines that the step prints.

A line without a prefix has the level INFO. Airflow reads the same prefixes in the logs of pods.
"""

from __future__ import annotations

import logging
import re
import sys
from types import TracebackType

from ims.masking import masked
from ims.settings import settings

log = logging.getLogger("ims")

_PREFIX = re.compile(r"(DEBUG|WARNING|ERROR|CRITICAL): ")


class LevelFormatter(logging.Formatter):
    """Writes the message without secrets, after its level if that is not INFO."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a record. Each line of a message gets the prefix."""
        text = masked(super().format(record))
        if record.levelno == logging.INFO:
            return text
        return "\n".join(f"{record.levelname}: {line}" for line in text.splitlines())


def configure_logging() -> None:
    """Log to standard output, from the level of the settings on."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(LevelFormatter())
    logging.basicConfig(level=settings().log_level, handlers=[handler], force=True)
    sys.excepthook = _log_bug


def _log_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log an error that is no ImsError with its traceback, in which secrets are masked."""
    log.critical("%s", kind.__name__, exc_info=(kind, error, trace))


def parse_line(line: str) -> tuple[int, str]:
    """The level and the message of a line that a step printed."""
    match = _PREFIX.match(line)
    return (logging.INFO, line) if match is None else (logging.getLevelNamesMapping()[match[1]], line[match.end() :])
