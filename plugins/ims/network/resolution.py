"""Resolves names to addresses that may be reached. Connect only to what these functions return, never to the name."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from ims.network.addresses import HINT, AddressRules, RefusedError, in_brackets, parse

RESOLUTION_SECONDS = 20
MAX_ADDRESSES = 8


@dataclass(frozen=True)
class Endpoint:
    """An address that was checked, with its port. `host` has a zone id if the resolver returned one."""

    host: str
    port: int


async def resolve(host: str, port: int, rules: AddressRules) -> list[Endpoint]:
    """The addresses of `host` that may be reached, in the order of the resolver.

    The resolver also understands numbers such as 2130706433, 0x7f.1 and 0177.0.0.1, so they need no case of their own.
    Raises RefusedError if no address may be reached, and OSError if the name has none.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLUTION_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (UnicodeError, ValueError):
        raise OSError(f"{host[:255]!r} is not a host name") from None
    return choose(host, port, [str(entry[4][0]) for entry in found], rules)


def choose(host: str, port: int, addresses: list[str], rules: AddressRules) -> list[Endpoint]:
    """The addresses that may be reached. Raises RefusedError if there is none."""
    refusals = {address: rules.refusal(parse(address)) for address in addresses}
    allowed = [Endpoint(address, port) for address, refusal in refusals.items() if refusal is None]
    if not allowed:
        address, reason = next(iter(refusals.items()), (host, "without an address"))
        raise RefusedError(f"{in_brackets(host)}:{port} is refused: {address} is {reason}", HINT)
    return allowed[:MAX_ADDRESSES]
