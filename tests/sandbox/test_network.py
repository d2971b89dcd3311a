"""The network of a sandbox."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ims.network.policy import Policy
from ims.sandbox.network import SandboxNetwork, provide
from tests.network.serving import WebServer, allowing, web_server

pytestmark = pytest.mark.system
CLONE_NEWNET = 0x40000000


@pytest.fixture
def server() -> Iterator[WebServer]:
    """A server on this machine, outside of the sandbox."""
    with web_server() as started:
        yield started


def inside(network: SandboxNetwork) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs a program in the network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter() -> None:
        assert libc.setns(network.namespace, CLONE_NEWNET) == 0

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **network.environment}
        return subprocess.run(
            command,
            env=environment,
            preexec_fn=enter,
            pass_fds=(network.namespace,),
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_proxy_is_the_only_way_out(server: WebServer) -> None:
    """There is no interface but loopback, and nothing else listens on it."""
    with provide(allowing("repositories", server.endpoint)) as network:
        run = inside(network)
        assert [line.split()[1] for line in run("ip", "-oneline", "link").stdout.splitlines()] == ["lo:"]
        assert run("ip", "route").stdout == ""
        assert run("curl", "-sS", server.url).stdout == "hello"
        assert run("curl", "-sS", "--proxytunnel", server.url).stdout == "hello"
        assert run("curl", "-sS", "--noproxy", "*", server.url).returncode == 7
        assert "is refused" in run("curl", "-sS", "http://other.example/").stdout
    assert network.report.fetched[server.endpoint].requests == 2
    assert list(network.report.refused) == ["other.example:80"]


def test_networks_are_separate(server: WebServer) -> None:
    """Each has its own policy at the same address."""
    with provide(allowing("open")) as first, provide(Policy("none")) as second:
        assert inside(first)("curl", "-sS", server.url).stdout == "hello"
        assert "this program has no network" in inside(second)("curl", "-sS", "http://other.example/").stdout


def test_nothing_is_left(server: WebServer) -> None:
    """No descriptor, no process, no namespace, and the network of this process is the same."""
    before = state()
    with provide(allowing("open")) as network:
        inside(network)("curl", "-sS", server.url)
    assert state() == before


def state() -> tuple[Path, list[Path]]:
    """The network namespace and the descriptors of this process."""
    return Path("/proc/self/ns/net").readlink(), sorted(Path("/proc/self/fd").iterdir())
