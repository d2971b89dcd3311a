"""Runs a program in a box that exists: `python -m ims.sandbox.enter FOLDER -- PROGRAM…`. See `ims.sandbox.shared`.

The program inherits standard input, output and error, and the environment, to which that of the box is added. The exit
code is that of the program. If it cannot enter the box, it is 74.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ims.sandbox import kernel, seccomp
from ims.sandbox.limits import Limits, limit_resources

STATE = "box.json"
"""Process ID, owner, groups, limits, capabilities and environment of the box."""
PROCESSES = "pid"
"""A mount of the PID namespace of the box, by which its first process is recognized: process IDs are used again."""
NAMESPACES = {
    "net": kernel.NEWNET,
    "ipc": kernel.NEWIPC,
    "uts": kernel.NEWUTS,
    "cgroup": kernel.NEWCGROUP,
    PROCESSES: kernel.NEWPID,
    "mnt": kernel.NEWNS,
    "user": kernel.NEWUSER,
}
"""The files of the namespaces, in the order in which they are entered."""
TTY_GROUP = 5
"""The group of terminals in a box."""
_INHERITED = 3
"""Standard input, output and error."""
_IGNORED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTOU)


def main(folder: Path, program: Sequence[str]) -> int:
    """Run a program in the box that the files in `folder` describe; returns its exit code."""
    os.closerange(_INHERITED, os.sysconf("SC_OPEN_MAX"))
    state = json.loads((folder / STATE).read_text())
    namespaces = _open_namespaces(state["pid"], folder / PROCESSES)
    groups = [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in state["groups"]]
    kernel.setns(namespaces[kernel.NEWPID], kernel.NEWPID)  # for its children
    pid = os.fork()
    if pid == 0:
        _run_or_exit(state, namespaces, groups, program)
    # The terminal sends these to the program as well, which decides what they mean.
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    return end_like(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def end_like(code: int) -> int:
    """Return the exit code of a program, or end by the signal that ended it, so that whoever waits sees the signal."""
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    return code


def _open_namespaces(first: int, processes: Path) -> dict[int, int]:
    """Returns the descriptors of all namespaces by their kinds. Raises OSError if the box has ended."""
    process = os.open(f"/proc/{first}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if not os.path.samestat(os.stat(f"ns/{PROCESSES}", dir_fd=process), processes.stat()):
        raise ProcessLookupError(errno.ESRCH, "the sandbox has ended")
    flags = os.O_RDONLY | os.O_CLOEXEC
    return {kind: os.open(f"ns/{name}", flags, dir_fd=process) for name, kind in NAMESPACES.items()}


def _run_or_exit(
    state: Mapping[str, Any], namespaces: Mapping[int, int], groups: Sequence[int], program: Sequence[str]
) -> None:
    try:
        for group in groups:
            os.write(group, b"0")  # this process
        limit_resources(Limits(**state["limits"]))
        _give_output(state["owner"])
        _enter(state, namespaces)
        os.environ.pop("PYTHONPATH", None)  # ours
        os.execve(program[0], list(program), {**os.environ, **state["environment"]})  # noqa: S606
    except OSError as error:
        print(f"the sandbox cannot start {program[0]}: {error.strerror}", file=sys.stderr, flush=True)
    finally:
        os._exit(os.EX_IOERR)


def _give_output(owner: int) -> None:
    """Make root of the box the owner of terminals and pipes, so that it can open them by name, such as /dev/stderr."""
    for descriptor in range(_INHERITED):
        if os.isatty(descriptor):
            os.fchown(descriptor, owner, owner + TTY_GROUP)
        elif stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.fchown(descriptor, owner, owner)


def _enter(state: Mapping[str, Any], namespaces: Mapping[int, int]) -> None:
    """Become root of the box, with the rights of its programs."""
    for kind, descriptor in namespaces.items():
        if kind == kernel.NEWUSER:
            os.chdir("/")
            os.setgroups([])
        if kind != kernel.NEWPID:
            kernel.setns(descriptor, kind)
        os.close(descriptor)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.umask(0o022)
    give_up_rights(state["capabilities"])


def give_up_rights(capabilities: Collection[int]) -> None:
    """Keep only these capabilities and the system calls that a box permits, for good."""
    kernel.keep_capabilities(capabilities)
    kernel.forbid_new_privileges()
    kernel.filter_calls(seccomp.sandbox())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[3:]))
