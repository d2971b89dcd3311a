"""The process of the proxy.

`python -m ims.network.server` reads its configuration as a line of JSON from standard input, and serves until anything
else arrives there or the input ends. Then it writes its report to standard output.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import signal
import socket
import sys

from ims.network.policy import Policy
from ims.network.process import USER
from ims.network.proxy import Proxy
from ims.network.report import Report

MAX_CONFIGURATION = 1024 * 1024
OPEN_FILES = 2048
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


def main() -> None:
    """Serve the policy in the configuration."""
    configuration = json.loads(sys.stdin.buffer.readline(MAX_CONFIGURATION))
    asyncio.run(_load())
    _drop_privileges()
    _end_with(configuration["parent"])
    report = Report()
    listener = socket.socket(fileno=configuration["listener"])
    asyncio.run(_serve(Proxy(Policy.from_dict(configuration["policy"]), report), listener))
    sys.stdout.write(json.dumps(report.as_dict()))


async def _load() -> None:
    """Load what Python and the resolver load at first use: later, this process may not be able to read it."""
    await asyncio.get_running_loop().getaddrinfo("localhost", 0)
    "ä.example".encode("idna")


async def _serve(proxy: Proxy, listener: socket.socket) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), stop.set)
    await proxy.run(listener, stop)
    loop.remove_reader(sys.stdin.fileno())


def _drop_privileges() -> None:
    """Become a user who owns nothing, without a way back, and write no files."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _end_with(parent: int) -> None:
    """Have the kernel end this process with its parent. It forgets that when the user changes, so this comes last."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the program that started the proxy has ended")


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


if __name__ == "__main__":
    main()
