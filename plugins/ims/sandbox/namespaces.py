"""The namespaces of a step on this machine."""

from __future__ import annotations

from pathlib import Path

from ims.sandbox import kernel

# The kernel kills the step if its parent dies, and all processes of a PID namespace if its first process ends.
STEP = (
    *("setpriv", "--pdeathsig=KILL", "--"),
    *("unshare", "--fork", "--pid", "--kill-child=KILL", "--mount", "--mount-proc", "--propagation", "private"),
    "--",
)
"""The start of a command line that runs a program in mount and PID namespaces of its own."""


def leave() -> None:
    """Let the next child of this process be the first of a PID namespace, in a mount namespace of its own."""
    kernel.unshare(kernel.NEWPID | kernel.NEWNS)
    kernel.make_mounts_private()


def mount_processes() -> None:
    """Show the processes of this PID namespace in /proc."""
    kernel.mount("proc", Path("/proc"), "proc", kernel.NO_SETUID | kernel.NO_DEVICES | kernel.NO_EXECUTION)
