"""The process of the proxy."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ims.errors import ImsError, PermanentError
from ims.network.policy import Policy
from ims.network.process import USER, proxy_environment, run_proxy
from tests.network.serving import Client, allowing, web_server

PLUGINS = Path(__file__).parents[2] / "plugins"


def children() -> list[int]:
    """The processes that this thread has started."""
    return [int(pid) for pid in Path("/proc/thread-self/children").read_text().split()]


def listening() -> tuple[socket.socket, int]:
    """A listening socket and its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, listener.getsockname()[1]


def test_report_comes_back() -> None:
    """It is complete when the context has ended, and the process is gone."""
    before, (listener, port) = children(), listening()
    with web_server() as server, run_proxy(allowing("repositories", server.endpoint), listener) as report:
        assert Client(port).get(server.url).endswith(b"hello")
        assert Client(port).get("http://evil.example/").startswith(b"HTTP/1.1 403 ")
    assert report.fetched[server.endpoint].bytes == 5
    assert list(report.refused) == ["evil.example:80"]
    assert children() == before


def test_open_connections_do_not_keep_it() -> None:
    """The program may have left a download behind."""
    listener, port = listening()
    with run_proxy(Policy("open"), listener) as report, socket.create_connection(("127.0.0.1", port)):
        Client(port).get("http://127.0.0.1/")
    assert list(report.forbidden) == ["127.0.0.1:80"]


def fail_inside(port: int) -> None:
    """Have a connection refused, then fail like a build whose script needs it."""
    Client(port).get("http://evil.example/")
    raise PermanentError("config.sh failed")


def test_failure_of_the_program_names_what_was_refused() -> None:
    """The class of the error stays."""
    listener, port = listening()
    with (
        pytest.raises(PermanentError, match=r"^config.sh failed; connections refused: evil.example:80. "),
        run_proxy(Policy("none"), listener),
    ):
        fail_inside(port)


def kill_proxy(port: int) -> None:
    """End the proxy like the kernel does when memory is short."""
    Client(port).get("http://evil.example/")
    os.kill(children()[-1], signal.SIGKILL)


def test_proxy_that_ended_early_is_an_error() -> None:
    """Otherwise its refusals would be lost."""
    listener, port = listening()
    with pytest.raises(ImsError, match="ended early"), run_proxy(Policy("none"), listener):
        kill_proxy(port)


def test_proxy_ends_with_its_parent() -> None:
    """Even if the parent is killed."""
    program = (
        "import socket, time\nfrom ims.network.policy import Policy\nfrom ims.network.process import run_proxy\n"
        "listener = socket.create_server(('127.0.0.1', 0))\nport = listener.getsockname()[1]\n"
        "with run_proxy(Policy('none'), listener):\n    print(port, flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, env={"PYTHONPATH": str(PLUGINS)}, stdout=subprocess.PIPE, stderr=-3) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        assert Client(port).get("http://x.example/").startswith(b"HTTP/1.1 403 ")
        parent.kill()
    deadline = time.monotonic() + 10
    while is_listening(port):
        assert time.monotonic() < deadline, "the proxy still listens"
        time.sleep(0.05)


def is_listening(port: int) -> bool:
    """Whether connections to a port are accepted."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.system
def test_proxy_is_unprivileged() -> None:
    """It has a user of its own, no capabilities, and cannot get any."""
    listener, port = listening()
    with run_proxy(Policy("none"), listener):
        Client(port).get("http://x.example/")
        status = Path(f"/proc/{children()[-1]}/status").read_text()
    fields = {line.partition(":")[0]: line.partition(":")[2].split() for line in status.splitlines()}
    assert fields["Uid"] == fields["Gid"] == [str(USER)] * 4
    assert fields["Groups"] == []
    assert {fields[name][0] for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}
    assert fields["NoNewPrivs"] == ["1"]


def test_programs_find_the_proxy() -> None:
    """Whatever the case of the variable that they read."""
    environment = proxy_environment(Policy("open"), "127.0.0.1:3128")
    assert environment["https_proxy"] == environment["HTTPS_PROXY"] == "http://127.0.0.1:3128"
    assert set(environment) == {*environment, *map(str.upper, environment)}


def test_loopback_needs_no_proxy_unless_it_is_that_of_the_machine() -> None:
    """A site may allow repositories on its own loopback addresses, which only the proxy reaches."""
    assert "127.0.0.1" in proxy_environment(Policy("open"), "127.0.0.1:3128")["no_proxy"]
    assert proxy_environment(allowing("open"), "127.0.0.1:3128")["no_proxy"] == ""
