"""Asks the kernel which addresses belong to this machine."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

_NETLINK_ROUTE = 0
_RTM_GETROUTE, _RTM_NEWROUTE = 26, 24
_RTM_GETADDR, _RTM_NEWADDR = 22, 20
_NLM_F_REQUEST, _NLM_F_DUMP = 1, 0x300
_RTA_DST = 1
_ADDRESSES = frozenset({1, 2})
"""IFA_ADDRESS and IFA_LOCAL."""
_BUFFER = 65536
_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE = _HEADER.size + 7
_LOCAL_TYPES = frozenset({2, 3, 4})
"""RTN_LOCAL, RTN_BROADCAST and RTN_ANYCAST: addresses of any interface, and of routes that deliver locally."""


def is_local(address: IPv4Address | IPv6Address) -> bool:
    """Whether the kernel would deliver a packet for `address` to this machine instead of sending it on.

    The route decides, not a list of interfaces: it also covers interfaces that appear later.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    destination = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(address.packed), _RTA_DST) + address.packed
    body = _ROUTE.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0) + destination
    request = _HEADER.pack(_HEADER.size + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as kernel:
        kernel.send(request)
        answer = kernel.recv(_BUFFER)
    _, kind, *_ = _HEADER.unpack_from(answer)
    # Any other answer is an error: there is no route, so nothing can be reached there.
    return kind == _RTM_NEWROUTE and answer[_TYPE] in _LOCAL_TYPES


def local_addresses() -> set[IPv4Address | IPv6Address]:
    """The addresses of all interfaces of this machine."""
    request = _HEADER.pack(_HEADER.size + _ADDRESS.size, _RTM_GETADDR, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0)
    found: set[IPv4Address | IPv6Address] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as kernel:
        kernel.send(request + _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
        while True:
            for kind, body in _messages(kernel.recv(_BUFFER)):
                if kind != _RTM_NEWADDR:
                    return found
                attributes = _messages(body[_ADDRESS.size :], _ATTRIBUTE)
                found |= {ip_address(value) for name, value in attributes if name in _ADDRESSES}


def _messages(data: bytes, header: struct.Struct = _HEADER) -> Iterator[tuple[int, bytes]]:
    """The type and the content of each message or attribute. Each begins with its length, and at a multiple of 4."""
    while len(data) >= header.size:
        length, kind, *_ = header.unpack_from(data)
        yield kind, data[header.size : length]
        data = data[(length + 3) & ~3 :]
