"""Sessions: how sshd starts one, and the processes that all of them share."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ims.errors import ImsError, InputError
from ims.images.overlay import mount
from ims.shell import places, seccomp

DESCRIPTORS = {"7": places.FILTER, "8": places.ARGUMENTS, "9": places.PROCESSES}
"""What bubblewrap takes as descriptors."""
COMMAND = ["bwrap", "--args", "8", "--seccomp", "7", "--pidns", "9", "--", str(places.ENTER)]
"""What sshd runs for a session."""
_FIRST = ["bwrap", "--args", "8", "--seccomp", "7", "--unshare-pid"]
ALONE = [*_FIRST, "--die-with-parent", "--", str(places.ENTER)]
"""What runs one command without sshd; it and all it started end with that command."""


def arrange(arguments: list[str]) -> None:
    """Keep bubblewrap's arguments and the filter of system calls where every session finds them."""
    places.ARGUMENTS.write_bytes(b"".join(os.fsencode(argument) + b"\0" for argument in arguments))
    places.FILTER.write_bytes(seccomp.no_user_namespaces())


class Processes:
    """The PID namespace that all sessions share: what is started in one lives on when its connection ends.

    It needs a first process. The user may end that, and with it all others: then there is a new one.
    """

    def __init__(self) -> None:
        # The first process is a shell that waits for a line, which never comes.
        self._never, self._hold = os.pipe()
        self._process = self._start()

    @property
    def pid(self) -> int:
        """The process to watch, as wait(2) names it."""
        return self._process.pid

    def restart(self) -> None:
        """Make a new namespace after the first process of the old one has ended."""
        subprocess.run(["umount", "--lazy", places.PROCESSES], check=True)
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        told, tell = os.pipe()
        with opened(_FIRST) as (command, descriptors):
            process = subprocess.Popen(
                [*command, "--info-fd", str(tell), "--", "/bin/sh", "-c", "read _"],
                stdin=self._never,
                pass_fds=(*descriptors, tell),
            )
        os.close(tell)
        with os.fdopen(told) as answer:
            information = answer.read()
        if not information:
            raise ImsError("bubblewrap does not start", "Its message is in the log above")
        places.PROCESSES.touch()
        mount("--bind", f"/proc/{json.loads(information)['child-pid']}/ns/pid", places.PROCESSES)
        return process


def try_one() -> None:
    """Run nothing in a session. Raises InputError: the image cannot run its own shell."""
    with opened(COMMAND) as (command, descriptors):
        done = subprocess.run(
            command,
            env=os.environ | {"SSH_ORIGINAL_COMMAND": ":"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            pass_fds=descriptors,
            check=False,
        )
    if done.returncode != 0:
        reason = done.stderr.strip() or f"it ended with {done.returncode}"
        raise InputError(
            f"nothing can be run in the image: {reason}", "It needs a /bin/sh for this machine's processor"
        )


@contextmanager
def opened(command: list[str]) -> Iterator[tuple[list[str], list[int]]]:
    """A command line with the descriptors that it names opened, and their numbers here."""
    with ExitStack() as stack:
        files: dict[str, Path] = {number: path for number, path in DESCRIPTORS.items() if number in command}
        numbers = {name: stack.enter_context(path.open("rb")).fileno() for name, path in files.items()}
        yield [str(numbers.get(word, word)) for word in command], list(numbers.values())
