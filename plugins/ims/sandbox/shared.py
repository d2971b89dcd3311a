"""A box that several programs share, one after the other or at the same time: `ims.sandbox.enter` runs them.

The first process of the box does nothing; when it ends, all of them end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from ims.errors import ConfigurationError, ImsError, error_of
from ims.sandbox import box, enter, kernel


class SharedBox:
    """A running box."""

    def __init__(self, process: subprocess.Popen[str], first: int) -> None:
        self._process, self._first = process, first

    @property
    def pid(self) -> int:
        """The process ID for wait(2)."""
        return self._process.pid

    def kill(self) -> None:
        """End all processes of the box. The program that made it then removes its control groups."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._first, signal.SIGKILL)


def enter_command(folder: Path, *program: str) -> list[str]:
    """The command line that runs a program, given by its path in the box, in the box that `open_box` noted in `folder`.

    It works in the mount namespace of the process that opened the box.
    """
    # Without the search for installed packages: this only needs the standard library, and it runs at every login.
    paths = f"PYTHONPATH={Path(enter.__file__).parents[2]}"
    module = [sys.executable, "-P", "-S", "-m", enter.__name__]
    return ["env", paths, *module, str(folder), "--", *program]


@contextmanager
def open_box(
    launcher: str, argument: str, folder: Path, environment: Mapping[str, str], descriptors: Sequence[int]
) -> Iterator[SharedBox]:
    """Start a box, and note in `folder` what `ims.sandbox.enter` needs.

    `launcher` is the name of a module that calls `hold`; it gets `argument` on the command line, and `environment`.
    Raises the ImsError that the launcher reports, or ConfigurationError if it ends without a report.
    """
    command = [sys.executable, "-P", "-m", launcher, argument]
    with subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=tuple(descriptors),
    ) as process:
        try:
            assert process.stdout is not None
            report = json.loads(process.stdout.readline() or "{}")
            if "error" in report:
                raise error_of(report["code"], report["error"], report["hint"])
            if not report:
                raise ConfigurationError("the sandbox cannot be made", "See the log above, and run: ims doctor")
            _note(report, folder)
        except BaseException:
            process.kill()
            raise
        first = os.pidfd_open(report["pid"])
        made = SharedBox(process, first)
        try:
            yield made
        finally:
            made.kill()
            os.close(first)


def _note(report: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / enter.PROCESSES
    target.touch()
    kernel.mount(f"/proc/{report['pid']}/ns/{enter.PROCESSES}", target, "none", kernel.BIND)
    (folder / enter.STATE).write_text(json.dumps(report))


def hold(frame: box.Frame, environment: Callable[[], Mapping[str, str]]) -> None:
    """Make a box and report it to `open_box`; returns when its first process ends. Raises OSError.

    Programs that enter it get what `environment` returns when the root of the box exists.
    """
    reader, writer = os.pipe()

    def first() -> NoReturn:
        os.write(writer, b"x")
        _wait_for_ever()

    with box.started(frame, first) as made:
        os.close(writer)
        if os.read(reader, 1):
            rest = {"limits": asdict(frame.limits), "capabilities": sorted(frame.capabilities)}
            groups = [str(path) for path in made.groups]
            report = {
                "pid": made.pid,
                "owner": made.owner,
                "groups": groups,
                "environment": dict(environment()),
                **rest,
            }
            print(json.dumps(report), flush=True)
        os.waitpid(made.pid, 0)


def report_error(error: ImsError) -> None:
    """Report to `open_box` why there is no box."""
    print(json.dumps({"error": error.reason, "hint": error.hint, "code": error.exit_code}), flush=True)


def _wait_for_ever() -> NoReturn:
    """Be the first process of a box: without descriptors of the service, and without zombies."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        signal.pause()
