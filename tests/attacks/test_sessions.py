"""Attacks by the user of a shell on the host, through the SSH server, which is outside of the sandbox."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ims.sandbox.limits import CONTROL_GROUPS
from ims.shell import sshd
from tests.running import command_of
from tests.shell.small_image import pack, write_root
from tests.shell.test_shell import Shell, make_key

pytestmark = pytest.mark.system

SESSIONS = 5


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A jailed shell."""
    served = Shell(make_key(tmp_path, "user"), pack(write_root(tmp_path / "root"), tmp_path / "rootfs")).start()
    yield served
    served.remove()


def test_many_sessions(shell: Shell) -> None:
    """What a session costs on the host is limited: users can open as many as they like, and each is a process."""
    clients = [_start_session(shell) for _ in range(SESSIONS)]
    try:
        processes = _wait_for_sessions(shell)
        limits = {_process_limit(process) for process in processes}
    finally:
        for client in clients:
            client.kill()
            client.wait()
    assert limits == {sshd.LIMITS.processes}


def test_end_with_idle_connections(shell: Shell) -> None:
    """The shell ends at once, and leaves no control group, while clients keep connections without a session."""
    idle = subprocess.Popen(["ssh", *shell.options(), "-N", "root@127.0.0.1"])
    try:
        groups = {_control_group(process) for process in _wait_for(shell, "sshd", 3)}
        started = time.monotonic()
        shell.says("touch /tmp/complete")
        shell.thread.join(20)
        assert time.monotonic() - started < 4
    finally:
        idle.kill()
        idle.wait()
    assert [group for group in groups if group.exists()] == []


def _start_session(shell: Shell) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["ssh", *shell.options(), "root@127.0.0.1", "exec sleep 60"], stdin=subprocess.DEVNULL)


def _wait_for_sessions(shell: Shell) -> list[Path]:
    return _wait_for(shell, "ims.sandbox.enter", SESSIONS)


def _wait_for(shell: Shell, name: str, count: int) -> list[Path]:
    """The processes of the host that wait for sessions, or serve connections."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = [process for process in shell.processes() if name.encode() in command_of(process)]
        if len(found) >= count:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{len(found)} processes {name} instead of {count}")


def _control_group(process: Path) -> Path:
    """The folder of the group that limits the number of processes, in version 2 or 1."""
    rows = [line.split(":", 2) for line in (process / "cgroup").read_text().splitlines()]
    names = {controllers: name for _, controllers, name in rows}
    own = CONTROL_GROUPS / "pids" if "pids" in names else CONTROL_GROUPS
    return own / names.get("pids", names.get("", "/")).lstrip("/")


def _process_limit(process: Path) -> int | None:
    limit = _control_group(process) / "pids.max"
    text = limit.read_text().strip() if limit.exists() else "max"
    return None if text == "max" else int(text)
