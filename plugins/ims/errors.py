"""The errors of the product.

    ImsError                        what failed and the value; exit code 70
    ├── StepFailedError             a step ended with an error; the exit code is that of the step
    ├── UnavailableError            a service does not answer; exit code 69
    └── PermanentError              another try cannot help; exit code 65
        ├── InputError              the input is wrong; exit code 65
        ├── MissingError            something that was named does not exist; exit code 66
        └── ConfigurationError      this installation lacks something; exit code 78
            └── LoginError          the user is not logged in, or the login has expired; exit code 77

The exit codes are those of sysexits.h. They carry an error from a step, which is a program, to the task that runs it.
"""

from __future__ import annotations

import errno
import os

PERMANENT_EXIT_CODES = frozenset({os.EX_USAGE, os.EX_DATAERR, os.EX_NOINPUT, os.EX_NOPERM, os.EX_CONFIG})
"""The exit codes of steps that another try cannot help."""
ENVIRONMENT_EXIT_CODES = frozenset({os.EX_UNAVAILABLE, os.EX_NOPERM, os.EX_CONFIG})
"""The exit codes of steps for which the recipe or the image is not to blame."""
SIGNAL_EXIT_CODE = 128
"""Containers that a signal ended have a greater exit code; local processes have a negative one."""


class ImsError(Exception):
    """One sentence that names what failed and the value. The hint tells what to do next, as an imperative."""

    exit_code = os.EX_SOFTWARE

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.reason}. {self.hint}" if self.hint else self.reason

    @property
    def permanent(self) -> bool:
        """Whether another try cannot help."""
        return self.exit_code in PERMANENT_EXIT_CODES

    @property
    def is_environmental(self) -> bool:
        """Whether the input is not to blame: a service or the installation failed, or something killed a process."""
        return self.exit_code in ENVIRONMENT_EXIT_CODES or self.exit_code < 0 or self.exit_code > SIGNAL_EXIT_CODE


class UnavailableError(ImsError):
    """A service does not answer."""

    exit_code = os.EX_UNAVAILABLE


class PermanentError(ImsError):
    """Another try cannot help."""

    exit_code = os.EX_DATAERR


class InputError(PermanentError):
    """The input is wrong."""


class MissingError(PermanentError):
    """Something that was named does not exist."""

    exit_code = os.EX_NOINPUT


class ConfigurationError(PermanentError):
    """This installation lacks something."""

    exit_code = os.EX_CONFIG


class LoginError(ConfigurationError):
    """The user is not logged in, or the login has expired."""

    exit_code = os.EX_NOPERM


class StepFailedError(ImsError):
    """A step, which is a program, ended with an error."""

    def __init__(self, reason: str, hint: str, exit_code: int) -> None:
        super().__init__(reason, hint)
        self.exit_code = exit_code


def error_of(exit_code: int, reason: str, hint: str) -> ImsError:
    """The error that a program reports with its exit code."""
    classes = (UnavailableError, PermanentError, MissingError, ConfigurationError, LoginError)
    kind = next((kind for kind in classes if kind.exit_code == exit_code), ImsError)
    return kind(reason, hint)


def disk_full(error: OSError) -> ImsError | None:
    """The error to report for a full disk; None if the operating system reports something else."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    name = f": {error.filename}" if error.filename else ""
    return ConfigurationError(
        f"{error.strerror}{name}", "Make room on the disk of the workspaces, or set build_env_size, then start again"
    )
