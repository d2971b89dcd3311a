"""The tree of errors."""

from __future__ import annotations

import errno

import pytest

from ims.errors import (
    ConfigurationError,
    ImsError,
    InputError,
    LoginError,
    MissingError,
    PermanentError,
    UnavailableError,
    disk_full,
)


@pytest.mark.parametrize("kind", [PermanentError, InputError, MissingError, ConfigurationError, LoginError])
def test_permanent(kind: type[ImsError]) -> None:
    """The exit code and the class agree, so an error keeps its meaning when it leaves a process."""
    assert issubclass(kind, PermanentError)
    assert kind("no").permanent


@pytest.mark.parametrize("kind", [ImsError, UnavailableError])
def test_worth_another_try(kind: type[ImsError]) -> None:
    """Neither the class nor the exit code marks the error as permanent."""
    assert not issubclass(kind, PermanentError)
    assert not kind("no").permanent


def test_hint_is_a_second_sentence() -> None:
    """An error without a hint is one sentence."""
    assert str(InputError("the name is empty", "Give one")) == "the name is empty. Give one"
    assert str(InputError("the name is empty")) == "the name is empty"


def test_full_disk() -> None:
    """The error names the file; other errors of the operating system are not translated."""
    full = disk_full(OSError(errno.ENOSPC, "No space left on device", "/srv/x"))
    assert isinstance(full, ConfigurationError)
    assert full.reason == "No space left on device: /srv/x"
    assert disk_full(OSError(errno.EACCES, "Permission denied")) is None
