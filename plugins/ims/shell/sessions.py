"""Sessions: the sandbox that all of them share, and how sshd starts one."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path

from ims.errors import InputError
from ims.sandbox.call import public_environment
from ims.sandbox.shared import SharedBox, enter_command, open_box
from ims.shell import jail, paths
from ims.shell.jail import SessionView

COMMAND = enter_command(paths.BOX, str(paths.ENTER))
"""The command that sshd runs for a session."""
SECONDS = 20
MAX_OUTPUT = 65536
_REASON = 1000
"""Characters of what a shell says."""
_MAX_LOG = 64 * 1024**2


def open_sessions(view: SessionView) -> AbstractContextManager[SharedBox]:
    """Make the sandbox of all sessions, whose processes outlive the connection that started them.

    Raises InputError if the image cannot be shown, and the errors of `open_box`.
    """
    return open_box(jail.__name__, view.to_json(), paths.BOX, public_environment(), [view.network])


def show_log(log: Path) -> None:
    """Show sessions a copy of a log, which programs of the job wrote. Must be called before `open_sessions`."""
    with log.open("rb") as file:
        paths.LOG.write_bytes(file.read(_MAX_LOG))


def check_shell() -> None:
    """Run a command that does nothing in a session. Raises InputError if the image cannot run its own shell."""
    code, output = ask(":")
    if code != 0:
        reason = os.fsdecode(output).strip()[:_REASON]
        raise InputError(
            f"the image cannot run its own shell: {reason or f'its shell ended with exit code {code}'}",
            "Add a /bin/sh for the architecture of this machine to the image",
        )


def ask(command: str) -> tuple[int, bytes]:
    """Run a command in a session; returns the exit code and what it printed.

    The image's own shell runs it, which may do anything: if it prints more than MAX_OUTPUT bytes or takes more than
    SECONDS, it is killed, and the exit code is negative.
    """
    environment = {"PATH": os.environ["PATH"], "SSH_ORIGINAL_COMMAND": command}
    deadline = time.monotonic() + SECONDS
    with subprocess.Popen(
        COMMAND, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        output = _read(process.stdout.fileno(), deadline)
        try:
            return process.wait(max(0, deadline - time.monotonic()) if output is not None else 0), output or b""
        except subprocess.TimeoutExpired:
            process.kill()
            return -signal.SIGKILL, output or b""


def _read(descriptor: int, deadline: float) -> bytes | None:
    """What is written to a pipe until its end; None if that is too much or takes too long."""
    found = b""
    while select.select([descriptor], [], [], max(0, deadline - time.monotonic()))[0]:
        if not (data := os.read(descriptor, MAX_OUTPUT)):
            return found
        if len(found := found + data) > MAX_OUTPUT:
            break
    return None
