"""The network of shells and scripts."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from ims.errors import ConfigurationError
from ims.network.addresses import AddressRules, parse
from ims.network.policy import Policy
from ims.network.routes import local_addresses
from ims.sandbox import nat
from ims.sandbox.nat import filter_rules, provide_nat
from ims.sandbox.network import SandboxNetwork, enter, in_thread
from tests.network.serving import WebServer, allowing, web_server

system = pytest.mark.system


def own_address() -> str:
    """The address of this machine from which it would reach others."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.254", 9))
        return str(probe.getsockname()[0])


def inside(network: SandboxNetwork) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs a program in the network namespace, without the variables of the proxy."""

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        enter(network.namespace)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return lambda *command: in_thread(lambda: run(*command))


@pytest.fixture
def server() -> Iterator[WebServer]:
    """A server on an address of this machine."""
    with web_server(own_address()) as started:
        yield started


@system
def test_other_addresses_are_reached_without_a_proxy(server: WebServer) -> None:
    """Here one of this machine, which the site allows."""
    with provide_nat(Policy("open", (), (f"{server.host}/32",))) as network:
        assert inside(network)("curl", "-sS", server.url).stdout == "hello"


@system
def test_addresses_of_this_machine_are_refused(server: WebServer) -> None:
    """The program fails at once, not after a time-out."""
    with provide_nat(Policy("open")) as network:
        assert inside(network)("curl", "-sS", "--max-time", "20", server.url).returncode == 7
    assert not server.requests


@system
def test_proxy_is_there_as_well() -> None:
    """It reaches the loopback addresses that the site allows, which are those of the namespace otherwise."""
    with web_server() as server, provide_nat(allowing("open")) as network:
        proxy = ("--proxy", network.environment["http_proxy"])
        assert inside(network)("curl", "-sS", *proxy, server.url).stdout == "hello"
        assert inside(network)("curl", "-sS", server.url).returncode == 7
    assert list(network.report.fetched) == [server.endpoint]


@system
def test_nothing_is_left() -> None:
    """No process, no descriptor, and the network of this process is the same."""
    before = state()
    with provide_nat(Policy("open")):
        assert state() != before
    assert state() == before


def state() -> tuple[Path, list[Path], str]:
    """The network namespace, the descriptors and the children of this process."""
    children = Path("/proc/thread-self/children").read_text()
    return Path("/proc/self/ns/net").readlink(), sorted(Path("/proc/self/fd").iterdir()), children


@system
@pytest.mark.parametrize(("program", "package"), [("nft", "nftables"), ("pasta", "passt")])
def test_missing_program(program: str, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error names the package."""
    for name in {"nft", "pasta", "setpriv", "unshare", "sh"} - {program}:
        found = next(path for folder in ("/usr/sbin", "/usr/bin") if (path := Path(folder, name)).exists())
        (tmp_path / name).symlink_to(found)
    monkeypatch.setattr(nat, "_ENVIRONMENT", {"PATH": str(tmp_path)})
    monkeypatch.setenv("PATH", str(tmp_path))
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.is_relative_to("/tmp/pytest-of-root"):  # pasta does not run as root
            folder.chmod(0o711)
    with pytest.raises(ConfigurationError, match=package), provide_nat(Policy("open")):
        pass


def test_rules_of_the_filter() -> None:
    """What the site allows comes first; then everything that is refused, also by NAT64."""
    rules = AddressRules((ip_network("192.0.2.7/32"),), frozenset({parse("198.51.100.1")}))
    text = filter_rules(rules, [parse("192.0.2.7"), parse("fd00::2")])
    allowed, refused = text.index("ip daddr 192.0.2.7/32 accept"), text.index("ip daddr 192.0.2.7/32 reject")
    assert allowed < refused
    for network in ("127.0.0.0/8", "169.254.0.0/16", "198.51.100.1/32"):
        assert f"ip daddr {network} reject" in text
    for network in ("64:ff9b::7f00:0/104", "2002:7f00::/24", "fe80::/10", "fd00::2/128"):
        assert f"ip6 daddr {network} reject" in text


def test_addresses_of_all_interfaces() -> None:
    """Loopback is always among them."""
    assert parse("127.0.0.1") in local_addresses()
