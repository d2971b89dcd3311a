"""A question that the service asks in a session, whose shell belongs to the image."""

from __future__ import annotations

import time

import pytest

from ims.errors import InputError
from ims.shell import boot, sessions

pytestmark = pytest.mark.system


def shell(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Sessions run this script, whatever the command is."""
    monkeypatch.setattr(sessions, "COMMAND", ("sh", "-c", script))


def test_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command reaches the shell, and its output and exit code come back."""
    shell(monkeypatch, 'echo "$SSH_ORIGINAL_COMMAND"; echo error >&2; exit 3')
    assert sessions.ask("question") == (3, b"question\nerror\n")


@pytest.mark.parametrize("script", ["yes", "sleep 4", "exec >&- 2>&-; sleep 4", "sleep 4 & exit 0", "yes & exit 0"])
def test_hostile_shell(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """It fills no memory and keeps nobody waiting."""
    monkeypatch.setattr(sessions, "SECONDS", 1)
    shell(monkeypatch, script)
    begin = time.monotonic()
    code, output = sessions.ask(":")
    assert code < 0 or script.endswith("exit 0")
    assert len(output) <= sessions.MAX_OUTPUT
    assert time.monotonic() - begin < 10
    assert boot.missing(["vmlinuz"], jail=True) == []


def test_shell_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the exit code."""
    shell(monkeypatch, "exit 126")
    with pytest.raises(InputError, match="exit code 126"):
        sessions.check_shell()
