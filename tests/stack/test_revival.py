"""Programs that supervisord has given up on are started again."""

from __future__ import annotations

from xmlrpc.client import Fault

import pytest

from ims.stack.revival import revive


class FakeSupervisor:
    """Knows processes by their states, and keeps the names of those that it is asked to start."""

    def __init__(self, **states: str) -> None:
        self.states = states
        self.started: list[str] = []

    def getAllProcessInfo(self) -> list[dict[str, str]]:
        """All processes."""
        return [{"name": name.replace("_", "-"), "statename": state} for name, state in self.states.items()]

    def startProcess(self, name: str, _wait: bool) -> None:
        """Keep the name. Raises Fault: the program is s3."""
        if name == "s3":
            raise Fault(50, "SPAWN_ERROR: s3")
        self.started.append(name)


def test_programs_of_the_stack() -> None:
    """Those that run, that wait for their next try or that were stopped are left alone, and so are services of jobs."""
    supervisor = FakeSupervisor(postgres="FATAL", scheduler="BACKOFF", triggerer="STOPPED", serve_shell_1="FATAL")
    revive(supervisor, ["postgres", "scheduler", "triggerer"])
    assert supervisor.started == ["postgres"]


def test_one_does_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    """The others are started; standard output belongs to the protocol of supervisord."""
    supervisor = FakeSupervisor(s3="FATAL", api_server="FATAL")
    revive(supervisor, ["s3", "api-server"])
    assert supervisor.started == ["api-server"]
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "s3 does not start: SPAWN_ERROR: s3\n")
