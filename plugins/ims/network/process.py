"""The process of the proxy: how it is started, and what it does when it starts.

`python -m ims.network.process` reads its configuration as a line of JSON from standard input, and serves until anything
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
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ims.errors import ImsError
from ims.network.policy import Policy
from ims.network.proxy import Proxy
from ims.network.report import MAX_BYTES, Report

USER = 0x6FFF0000
"""The user and group id of the proxy. No account has it, and it owns no files."""
MAX_CONFIGURATION = 1024 * 1024
STOP_SECONDS = 20
OPEN_FILES = 2048
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


@contextmanager
def run_proxy(policy: Policy, listener: socket.socket) -> Iterator[Report]:
    """Serve a policy on a listening socket, which is closed here; yields the report, which is complete at the end.

    An ImsError that leaves the context names the connections that were refused. The proxy ends with the thread that
    enters the context. Raises ImsError if it ended early.
    """
    report = Report()
    with listener:
        process = _start(policy, listener)
    try:
        yield report
    except ImsError as error:
        _stop(process, report)
        report.explain(error, policy.hint)
        raise
    except BaseException:
        _stop(process, report)
        raise
    if not _stop(process, report):
        raise ImsError("the proxy for the network of a program ended early", "See its error in the log of the step")


def proxy_environment(address: str) -> dict[str, str]:
    """The variables with which programs use the proxy at HOST:PORT. Some programs know only one spelling.

    Nothing is in no_proxy: a site may allow repositories on this machine, so their addresses are loopback addresses.
    """
    url = f"http://{address}"
    values = {"http_proxy": url, "https_proxy": url, "ftp_proxy": url, "no_proxy": ""}
    return {**values, **{name.upper(): value for name, value in values.items()}}


@contextmanager
def local_proxy(policy: Policy) -> Iterator[dict[str, str]]:
    """Serve a policy on a free port of this machine; yields the variables with which programs find the proxy.

    For the service's own programs, which respect them. Programs that may not are run in a sandbox.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    environment = proxy_environment(f"127.0.0.1:{listener.getsockname()[1]}")
    with run_proxy(policy, listener):
        yield environment


def _start(policy: Policy, listener: socket.socket) -> subprocess.Popen[bytes]:
    configuration = {"policy": policy.as_dict(), "listener": listener.fileno(), "parent": os.getpid()}
    names = [*VARIABLES, *map(str.upper, VARIABLES)]
    environment = {name: os.environ[name] for name in names if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-m", "ims.network.process"],
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=(listener.fileno(),),
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # `_stop` reports it
        process.stdin.write(json.dumps(configuration).encode() + b"\n")
        process.stdin.flush()
    return process


def _stop(process: subprocess.Popen[bytes], report: Report) -> bool:
    """Stop the proxy and fill the report. Returns false if the proxy did not write one."""
    try:
        output, _ = process.communicate(b"stop\n", timeout=STOP_SECONDS)
        found = Report.from_dict(json.loads(output[:MAX_BYTES]))
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        process.kill()
        process.communicate()
        return False
    vars(report).update(vars(found))
    report.log_hosts()
    return True


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
