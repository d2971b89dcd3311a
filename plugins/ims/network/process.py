"""Starts and stops the process of the proxy, see `ims.network.server`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

from ims.errors import ImsError
from ims.network.policy import Policy
from ims.network.report import Report

USER = 0x6FFF0000
"""The user and group id of the proxy. No account has it, and it owns no files."""
STOP_SECONDS = 20
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


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


def proxy_environment(policy: Policy, address: str) -> dict[str, str]:
    """The variables with which programs use the proxy at HOST:PORT. Some programs know only one spelling.

    Programs reach their own loopback addresses directly, unless the site allows those of this machine.
    """
    url = f"http://{address}"
    direct = policy.rules.refusal(ip_address("127.0.0.1")) is not None
    values = {
        **{"http_proxy": url, "https_proxy": url, "ftp_proxy": url},
        "no_proxy": "localhost,127.0.0.1,::1" if direct else "",
    }
    return {**values, **{name.upper(): value for name, value in values.items()}}


def inherited_proxy() -> dict[str, str]:
    """The variables of this process by which programs find a proxy."""
    names = (*VARIABLES, *map(str.upper, VARIABLES))
    return {name: os.environ[name] for name in names if name in os.environ}


def _start(policy: Policy, listener: socket.socket) -> subprocess.Popen[bytes]:
    configuration = {"policy": policy.as_dict(), "listener": listener.fileno(), "parent": os.getpid()}
    process = subprocess.Popen(
        [sys.executable, "-m", "ims.network.server"],
        env={
            **inherited_proxy(),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
        },
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
        found = Report.from_json(output)
    except (subprocess.TimeoutExpired, ValueError):
        process.kill()
        process.communicate()
        return False
    vars(report).update(vars(found))
    report.log_hosts()
    return True
