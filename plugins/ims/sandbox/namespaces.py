"""The namespaces of a step on this machine."""

from __future__ import annotations

# The kernel kills the step if its parent dies, and all processes of a PID namespace if its first process ends.
STEP = (
    *("setpriv", "--pdeathsig=KILL", "--"),
    *("unshare", "--fork", "--pid", "--kill-child=KILL", "--mount", "--mount-proc", "--propagation", "private"),
    "--",
)
"""The start of a command line that runs a program in mount and PID namespaces of its own."""
