"""Makes a box and runs a program in it: `python -m ims.sandbox.box VIEW -- PROGRAM…`.

A box is a user namespace whose root may do what package managers need, and in which nothing of the machine is visible
but what its view names. The order of the steps is the security; docs/adr/0019-sandbox.md explains it.

The program inherits the environment, the descriptors and the output of this process. The exit code is that of the
program. If the box cannot be made, it is that of ConfigurationError, and the reason is on standard error.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ims.errors import ConfigurationError, ImsError
from ims.sandbox import kernel, users
from ims.sandbox.enter import TTY_GROUP, end_like, give_up_rights
from ims.sandbox.limits import Limits, control_groups, limit_resources
from ims.sandbox.view import View, make

# The capabilities that package managers and kiwi need, with their numbers.
CAPABILITIES = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "DAC_READ_SEARCH": 2,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "SYS_CHROOT": 18,
    "SYS_ADMIN": 21,
    "AUDIT_WRITE": 29,
    "SETFCAP": 31,
}
_NO_MORE_NAMESPACES = ("user", "net", "pid", "uts", "ipc", "cgroup", "time")
# All that programs in an image need if they mount nothing.
SESSION_CAPABILITIES = {
    name: number for name, number in CAPABILITIES.items() if name not in ("DAC_READ_SEARCH", "SETPCAP", "SYS_ADMIN")
}
_SAFE = kernel.NO_SETUID | kernel.NO_DEVICES | kernel.NO_EXECUTION


def command(view: View, program: Sequence[str]) -> list[str]:
    """The command line that runs a program in a box."""
    return [sys.executable, "-P", "-m", "ims.sandbox.box", view.to_json(), "--", *program]


@dataclass(frozen=True)
class Frame:
    """What a box is made of.

    `make` makes its root and returns it; it gets the first user of the box and the descriptor of its user namespace.
    /proc and /sys are mounted in the root and in the folders `images`, which are relative to it. Without `terminals`,
    the root has a /dev/pts already. `network` and `everyone` are as in `View`.
    """

    make: Callable[[int, int], Path]
    limits: Limits
    network: int | None
    everyone: bool = False
    hostname: str = "build"
    images: tuple[str, ...] = ()
    terminals: bool = True
    capabilities: frozenset[int] = frozenset(CAPABILITIES.values())


@dataclass(frozen=True)
class Box:
    """A box that exists: its first process, its first user, and the files that take the ID of a process that joins."""

    pid: int
    owner: int
    groups: Sequence[Path]


def run(view: View, program: Sequence[str]) -> int:
    """Run a program in a box; returns its exit code, which is negative if a signal killed it. Raises OSError."""
    folder = Path.cwd()

    def start() -> NoReturn:
        os.chdir(folder)
        os.execvp(program[0], list(program))  # noqa: S606

    frame = Frame(
        lambda owner, namespace: make(view, owner, namespace), view.limits, view.network, everyone=view.everyone
    )
    with started(frame, start) as box:
        return os.waitstatus_to_exitcode(os.waitpid(box.pid, 0)[1])


@contextmanager
def started(frame: Frame, first: Callable[[], NoReturn]) -> Iterator[Box]:
    """Make a box, whose first process calls `first`. This process enters namespaces of the box, too. Raises OSError."""
    kernel.die_with_parent(signal.SIGKILL)
    with users.reserved_range() as owner, control_groups(frame.limits) as groups:
        kernel.unshare(kernel.NEWNS)
        kernel.make_mounts_private()
        user_namespace = users.user_namespace(owner, frame.limits, everyone=frame.everyone)
        root = frame.make(owner, user_namespace)
        if frame.network is None:
            kernel.unshare(kernel.NEWNET)
        else:
            kernel.setns(frame.network, kernel.NEWNET)
            os.close(frame.network)
        kernel.unshare(kernel.NEWPID | kernel.NEWIPC | kernel.NEWUTS | kernel.NEWCGROUP)
        pid = os.fork()
        if pid == 0:
            _enter_or_exit(frame, groups, root, user_namespace, first)
        os.close(user_namespace)
        yield Box(pid, owner, groups)


def _enter_or_exit(
    frame: Frame, groups: Sequence[Path], root: Path, user_namespace: int, first: Callable[[], NoReturn]
) -> None:
    try:
        for group in groups:
            group.write_text("0")  # this process
        limit_resources(frame.limits)
        _enter(frame, root, user_namespace)
        first()
    except OSError as error:
        print(f"the sandbox cannot start: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(ConfigurationError.exit_code)


def _enter(frame: Frame, root: Path, user_namespace: int) -> None:
    """Become root of the box, in the first process of its PID namespace."""
    # pivot_root would also change the root of the process that makes the box. It must not search modules in an image.
    kernel.unshare(kernel.NEWNS)
    for folder in ("", *frame.images):
        kernel.mount("proc", root / folder / "proc", "proc", _SAFE)
        kernel.mount("sysfs", root / folder / "sys", "sysfs", _SAFE | kernel.READ_ONLY)
    kernel.pivot_root(root)
    kernel.set_hostname(frame.hostname)
    os.setgroups([])
    kernel.setns(user_namespace, kernel.NEWUSER)
    os.close(user_namespace)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    # In a mount namespace that the box owns, all mounts so far are locked: it cannot remove or change them.
    kernel.unshare(kernel.NEWNS)
    if frame.terminals:
        options = f"newinstance,ptmxmode=0666,mode=0620,gid={TTY_GROUP}"
        kernel.mount("devpts", Path("/dev/pts"), "devpts", kernel.NO_SETUID | kernel.NO_EXECUTION, options)
    for name in _NO_MORE_NAMESPACES:
        Path(f"/proc/sys/user/max_{name}_namespaces").write_text("0")
    os.umask(0o022)
    # The kernel forgot this when the user changed.
    kernel.die_with_parent(signal.SIGKILL)
    give_up_rights(frame.capabilities)


def main(arguments: Sequence[str]) -> int:
    """Run the program that the command line names; returns the exit code."""
    view, _, *program = arguments
    try:
        code = run(View.from_json(view), program)
    except (OSError, ImsError) as error:
        print(f"the sandbox cannot be made: {error}", file=sys.stderr)
        return ConfigurationError.exit_code
    return end_like(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
