"""Errors an administrator can meet.

    ImsError                    what failed, the value, what to do next; exit code 70, worth another try
    ├── InputError              what was given is wrong; exit code 65, trying again cannot help
    ├── MissingError            something that was named does not exist; exit code 66, trying again cannot help
    ├── UnavailableError        a service does not answer (now); exit code 69, worth another try
    └── ConfigurationError      this installation is not set up for it; exit code 78, trying again cannot help
        └── LoginError          nobody is logged in, or not any more; exit code 77, trying again cannot help

Exit codes are those of sysexits.h.
"""

from __future__ import annotations

import errno
import os

PERMANENT_EXIT_CODES = frozenset({os.EX_USAGE, os.EX_DATAERR, os.EX_NOINPUT, os.EX_NOPERM, os.EX_CONFIG})
SKIP_EXIT_CODE = 99


class ImsError(Exception):
    """One sentence that names what failed and the value; `hint` says what to do next."""

    exit_code = os.EX_SOFTWARE

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.reason}. {self.hint}" if self.hint else self.reason


class InputError(ImsError):
    """What was given is wrong."""

    exit_code = os.EX_DATAERR


class MissingError(ImsError):
    """Something that was named does not exist."""

    exit_code = os.EX_NOINPUT


class UnavailableError(ImsError):
    """A service does not answer."""

    exit_code = os.EX_UNAVAILABLE


class ConfigurationError(ImsError):
    """This installation lacks something."""

    exit_code = os.EX_CONFIG


class LoginError(ConfigurationError):
    """Nobody is logged in, or not any more."""

    exit_code = os.EX_NOPERM


def disk_full(error: OSError) -> ImsError | None:
    """What to tell of an error of the operating system that says that a disk is full; None for another."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    name = f": {error.filename}" if error.filename else ""
    return ConfigurationError(
        f"{error.strerror}{name}", "Make room on the disk of the workspaces, or set build_env_size, then start again"
    )
