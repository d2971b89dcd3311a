"""The network of shells and scripts: every protocol, through a NAT that refuses the same addresses as the proxy.

pasta connects a network namespace as an ordinary user: it opens ordinary sockets on this machine, which forwards no
packets. The filter is in the namespace. It belongs to a user namespace that only pasta enters, so that root of the
sandbox, who has no rights there, can neither remove the filter nor send packets past it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path

from ims.errors import ConfigurationError
from ims.network.addresses import Address, AddressRules, Network, refused_networks
from ims.network.policy import Policy
from ims.network.process import USER, proxy_environment, run_proxy
from ims.network.routes import local_addresses
from ims.sandbox.network import PROXY, SandboxNetwork, enter, in_thread, listen

INTERFACE = "net0"
START_SECONDS = 10
# An address that no network has (RFC 7600): pasta sends what it receives there to the name server of this machine.
NAME_SERVER = "192.0.0.8"
# Addresses of the namespace that no other network has (RFC 7335). Those of this machine would be local there.
_ADDRESS = ("--address", "192.0.0.2", "--netmask", "255.255.255.248", "--gateway", "192.0.0.1")
_NO_PORTS = ("--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none", "--no-map-gw")
_AS_USER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--")
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
_FILTER = """\
table inet ims {{
  chain output {{
    type filter hook output priority 0; policy accept;
    oifname "lo" accept
    ip daddr {name_server} meta l4proto {{ tcp, udp }} th dport 53 accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit }} accept
{rules}
  }}
}}
"""


@contextmanager
def provide_nat(policy: Policy) -> Iterator[SandboxNetwork]:
    """Make a network namespace that reaches every address that is not refused, directly or by the proxy of `policy`.

    Raises ConfigurationError if a program is missing or this process may not make a namespace.
    """
    with _namespace() as (process, namespace):
        _load_filter(namespace, filter_rules(policy.rules, local_addresses()))
        listener = in_thread(lambda: _listen_in(namespace))
        with run_proxy(policy, listener) as report, _connected(process, namespace):
            environment = proxy_environment(policy, ":".join(map(str, PROXY)))
            yield SandboxNetwork(namespace, environment, report, f"nameserver {NAME_SERVER}\n")


def filter_rules(rules: AddressRules, own: Iterable[Address]) -> str:
    """The ruleset of nft that refuses what `rules` refuse, where `own` are the addresses of this machine.

    An address that this machine gets later is not refused until the next sandbox starts.
    """
    decisions = [*_decide(rules.allowed, "accept")]
    decisions += _decide(refused_networks(rules, own), "reject with icmpx type admin-prohibited")
    return _FILTER.format(name_server=NAME_SERVER, rules="\n".join(f"    {line}" for line in decisions))


def _decide(networks: Iterable[Network], verdict: str) -> Iterator[str]:
    for network in networks:
        family = "ip" if isinstance(network, IPv4Network) else "ip6"
        yield f"{family} daddr {network} {verdict}"


@contextmanager
def _namespace() -> Iterator[tuple[int, int]]:
    """Make a network namespace that belongs to the user of pasta; yields a process in it, and a descriptor of it.

    The process ends when its input ends, so also if this process is killed.
    """
    command = [*_AS_USER, "unshare", "--user", "--map-root-user", "--net", "--", "sh", "-c", "echo; read _"]
    with subprocess.Popen(command, env=_ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if not process.stdout.readline():
            raise ConfigurationError(
                "the network namespace of a sandbox cannot be made", "Allow unprivileged user namespaces on this kernel"
            )
        namespace = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield process.pid, namespace
        finally:
            os.close(namespace)
            process.kill()


def _load_filter(namespace: int, rules: str) -> None:
    done = in_thread(lambda: _run_in(namespace, ["nft", "--file", "-"], rules))
    if done.returncode != 0:
        raise ConfigurationError(f"nft does not accept the rules of the network: {done.stderr.strip()[:300]}")


def _run_in(namespace: int, command: list[str], text: str) -> subprocess.CompletedProcess[str]:
    enter(namespace)
    try:
        return subprocess.run(command, input=text, env=_ENVIRONMENT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise OSError(f"there is no {command[0]}: install nftables") from None


def _listen_in(namespace: int) -> socket.socket:
    enter(namespace)
    return listen()


@contextmanager
def _connected(process: int, namespace: int) -> Iterator[None]:
    """Connect the network namespace of a process until the context ends. Raises ConfigurationError if pasta fails."""
    options = ("--foreground", "--quiet", "--stderr", "--config-net", "--ns-ifname", INTERFACE)
    command = [*_AS_USER, "pasta", *options, *_ADDRESS, *_NO_PORTS, "--dns-forward", NAME_SERVER, str(process)]
    try:
        pasta = subprocess.Popen(command, env=_ENVIRONMENT, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        raise ConfigurationError("there is no setpriv", "Install util-linux") from None
    try:
        _await_interface(pasta, namespace)
        yield
    finally:
        pasta.kill()
        pasta.wait()


def _await_interface(pasta: subprocess.Popen[bytes], namespace: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not in_thread(lambda: _has_route(namespace)):
        if pasta.poll() is not None or time.monotonic() > deadline:
            raise ConfigurationError(
                "pasta does not connect the network of a sandbox", "Install passt, and load the kernel module tun"
            )
        time.sleep(0.01)


def _has_route(namespace: int) -> bool:
    enter(namespace)
    return INTERFACE in Path("/proc/thread-self/net/route").read_text()
