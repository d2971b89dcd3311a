"""Asks the kernel whether an address belongs to this machine."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv6Address

_NETLINK_ROUTE = 0
_RTM_GETROUTE, _RTM_NEWROUTE = 26, 24
_NLM_F_REQUEST = 1
_RTA_DST = 1
_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=BBBBBBBBI")
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
        answer = kernel.recv(65536)
    _, kind, *_ = _HEADER.unpack_from(answer)
    # Any other answer is an error: there is no route, so nothing can be reached there.
    return kind == _RTM_NEWROUTE and answer[_TYPE] in _LOCAL_TYPES
