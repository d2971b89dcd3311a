"""Decides which IP addresses may be reached. Names are resolved first, see `ims.network.resolution`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network

from ims.errors import PermanentError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_SPECIAL: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a loopback address", ("127.0.0.0/8", "::1/128")),
    ("an unspecified address", ("0.0.0.0/8", "::/128")),
    ("a link-local address", ("169.254.0.0/16", "fe80::/10")),
    ("a multicast address", ("224.0.0.0/4", "ff00::/8")),
    ("a reserved address", ("240.0.0.0/4",)),
    # AWS, Alibaba, Oracle, Azure and Google. The usual 169.254.169.254 is link-local.
    (
        "the address of a metadata service",
        ("fd00:ec2::/64", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32", "fd20:ce::254/128"),
    ),
)
_REFUSED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), kind) for kind, networks in _SPECIAL for network in networks
)
# IPv6 networks whose addresses contain an IPv4 address in their last 32 bits: compatible, translated (SIIT), and NAT64.
_EMBEDDING = tuple(map(IPv6Network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")))
_TRANSLATION = (("64:ff9b::", 96, 0), ("64:ff9b:1::", 96, 0), ("2002::", 16, 80))
_ISATAP = 0x5EFE
_LAST_32_BITS = 0xFFFFFFFF
HINT = "An administrator can allow its network with IMS_ALLOWED_NETWORKS"


class RefusedError(PermanentError):
    """The address must not be reached."""


@dataclass(frozen=True)
class AddressRules:
    """Refuses special addresses, those of this machine, and those in `services`, unless a network in `allowed` has it.

    `is_local` tells whether an address belongs to this machine, see `ims.network.routes`.
    """

    allowed: tuple[Network, ...] = ()
    services: frozenset[Address] = frozenset()
    is_local: Callable[[Address], bool] = lambda address: False

    def refusal(self, address: Address) -> str | None:
        """What kind of address it is if it is refused, for example "a loopback address"; None if it is allowed."""
        reasons = (self._reason(form) for form in forms(address))
        return next((reason for reason in reasons if reason is not None), None)

    def _reason(self, address: Address) -> str | None:
        if any(address in network for network in self.allowed):
            return None
        for network, kind in _REFUSED:
            if address in network:
                return kind
        if address in self.services:
            return "an address of this service"
        return "an address of this machine" if self.is_local(address) else None


def refused_networks(rules: AddressRules, own: Iterable[Address]) -> list[Network]:
    """The networks that `rules` refuse, for a packet filter, where `own` are the addresses of this machine.

    The networks that the rules allow are not taken out.
    """
    addresses = (ip_network(address) for address in {*rules.services, *own} if not address.is_link_local)
    networks = {network for network, _ in _REFUSED} | set(addresses)
    plain = [network for network in networks if isinstance(network, IPv4Network)]
    long = [network for network in networks if isinstance(network, IPv6Network)]
    return [*collapse_addresses(plain), *collapse_addresses([*long, *_translated(plain)])]


def _translated(networks: Iterable[IPv4Network]) -> Iterator[IPv6Network]:
    """The IPv6 networks by which NAT64 and 6to4 reach IPv4 networks."""
    for network in networks:
        number = int(network.network_address)
        for prefix, length, shift in _TRANSLATION:
            yield IPv6Network((int(IPv6Address(prefix)) | number << shift, length + network.prefixlen))


def forms(address: Address) -> Iterator[Address]:
    """The addresses that packets to an address may reach: itself and the IPv4 address in an IPv6 address."""
    if isinstance(address, IPv4Address):
        yield address
        return
    plain = IPv6Address(int(address))  # without a zone id, with which it is in no network
    if plain.ipv4_mapped is not None:
        yield plain.ipv4_mapped
        return
    yield plain
    yield from _embedded(plain)


def _embedded(address: IPv6Address) -> Iterator[IPv4Address]:
    last = IPv4Address(int(address) & _LAST_32_BITS)
    if any(address in network for network in _EMBEDDING) and int(address) > 1:
        yield last
    if (int(address) >> 32) & 0xFFFF == _ISATAP:
        yield last
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo


def parse(text: str) -> Address:
    """The address in the answer of a resolver, which may have a zone id."""
    return ip_address(text.partition("%")[0])


def in_brackets(host: str) -> str:
    """A host as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host
