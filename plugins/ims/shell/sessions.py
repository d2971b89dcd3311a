"""Sessions: how sshd starts one, and the processes that all of them share."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ims.errors import ImsError, InputError
from ims.sandbox import seccomp
from ims.sandbox.bubblewrap import BWRAP
from ims.sandbox.network import enter_command
from ims.sandbox.overlay import mount, unmount
from ims.shell import paths

DESCRIPTORS = {"7": paths.FILTER, "8": paths.ARGUMENTS, "9": paths.PROCESSES}
"""The files that bubblewrap reads, by the number of the descriptor that it expects."""
COMMAND = [
    *enter_command(paths.NETWORK),
    BWRAP,
    "--args",
    "8",
    "--seccomp",
    "7",
    "--pidns",
    "9",
    "--",
    str(paths.ENTER),
]
"""The command that sshd runs for a session."""
_NEW_NAMESPACE = [*enter_command(paths.NETWORK), BWRAP, "--args", "8", "--seccomp", "7", "--unshare-pid"]
STANDALONE = [*_NEW_NAMESPACE, "--die-with-parent", "--", str(paths.ENTER)]
"""The command that runs one command without sshd. All its processes end with that command."""


def configure(arguments: list[str]) -> None:
    """Store the arguments of bubblewrap and the seccomp filter for all sessions."""
    paths.ARGUMENTS.write_bytes(b"".join(os.fsencode(argument) + b"\0" for argument in arguments))
    paths.FILTER.write_bytes(seccomp.sandbox())


class SharedProcesses:
    """The PID namespace that all sessions share, so that processes outlive the connection that started them.

    The kernel ends all processes of the namespace together with its first process, which the user may kill. `restart`
    then makes a new namespace.
    """

    def __init__(self) -> None:
        # The first process is a shell that reads a line from this pipe, to which nothing is ever written.
        self._pipe, self._writer = os.pipe()
        self._process = self._start()

    @property
    def pid(self) -> int:
        """The process ID for wait(2)."""
        return self._process.pid

    def restart(self) -> None:
        """Make a new namespace. The first process of the old one must have ended."""
        unmount(paths.PROCESSES)
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        reader, writer = os.pipe()
        with open_descriptors(_NEW_NAMESPACE) as (command, descriptors):
            process = subprocess.Popen(
                [*command, "--info-fd", str(writer), "--", "/bin/sh", "-c", "read _"],
                # Sessions can read the environment of the first process.
                env={"PATH": os.environ["PATH"]},
                stdin=self._pipe,
                pass_fds=(*descriptors, writer),
            )
        os.close(writer)
        with os.fdopen(reader) as file:
            information = file.read()
        if not information:
            raise ImsError("bubblewrap does not start", "See its message in the log above")
        paths.PROCESSES.touch()
        mount("--bind", f"/proc/{json.loads(information)['child-pid']}/ns/pid", paths.PROCESSES)
        return process


def check_shell() -> None:
    """Run a command that does nothing in a session. Raises InputError if the image cannot run its own shell."""
    with open_descriptors(COMMAND) as (command, descriptors):
        done = subprocess.run(
            command,
            env={"PATH": os.environ["PATH"], "SSH_ORIGINAL_COMMAND": ":"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            pass_fds=descriptors,
            check=False,
        )
    if done.returncode != 0:
        reason = done.stderr.strip() or f"its shell ended with exit code {done.returncode}"
        raise InputError(
            f"the image cannot run its own shell: {reason}",
            "Add a /bin/sh for the architecture of this machine to the image",
        )


@contextmanager
def open_descriptors(command: list[str]) -> Iterator[tuple[list[str], list[int]]]:
    """Open the files of `DESCRIPTORS` that a command line uses.

    Yields the command line with the numbers of the opened descriptors, and these numbers.
    """
    with ExitStack() as stack:
        files: dict[str, Path] = {number: path for number, path in DESCRIPTORS.items() if number in command}
        numbers = {name: stack.enter_context(path.open("rb")).fileno() for name, path in files.items()}
        yield [str(numbers.get(word, word)) for word in command], list(numbers.values())
