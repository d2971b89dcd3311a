"""Sessions: the sandbox that all of them share, and how sshd starts one."""

from __future__ import annotations

import os
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

from ims.errors import InputError
from ims.sandbox.call import public_environment
from ims.sandbox.shared import SharedBox, enter_command, open_box
from ims.shell import jail, paths
from ims.shell.jail import SessionView

COMMAND = enter_command(paths.BOX, str(paths.ENTER))
"""The command that sshd runs for a session."""
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
    environment = {"PATH": os.environ["PATH"], "SSH_ORIGINAL_COMMAND": ":"}
    done = subprocess.run(
        COMMAND, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = done.stderr.strip() or f"its shell ended with exit code {done.returncode}"
        raise InputError(
            f"the image cannot run its own shell: {reason}",
            "Add a /bin/sh for the architecture of this machine to the image",
        )
