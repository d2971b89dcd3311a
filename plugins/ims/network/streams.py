"""Connections of the proxy: to servers, directly or through the site's proxy, and tunnels between two connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import h11

from ims.network.addresses import AddressRules
from ims.network.resolution import Endpoint, resolve
from ims.network.upstream import SiteProxy, site_proxy

CHUNK = 256 * 1024
CONNECT_SECONDS = 30
MAX_HEAD = 64 * 1024


@dataclass
class Stream:
    """Both directions of a connection. `progress` is called after each transfer."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    progress: Callable[[], None] = lambda: None

    @property
    def address(self) -> str:
        """The address of this side; empty if the connection is already lost."""
        name = self.writer.get_extra_info("sockname")
        return str(name[0]) if name else ""

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""
        data = await self.reader.read(CHUNK)
        self.progress()
        return data

    async def write(self, data: bytes) -> None:
        """Write, and wait while the peer does not read."""
        self.writer.write(data)
        await self.writer.drain()
        self.progress()

    def close(self) -> None:
        """Close the connection at once, without waiting for the peer."""
        with suppress(OSError):
            self.writer.close()
            self.writer.transport.abort()

    async def finish(self) -> None:
        """Close the connection after everything was sent."""
        with suppress(OSError):
            self.writer.close()
            await self.writer.wait_closed()


async def open_stream(host: str, port: int, scheme: str, rules: AddressRules) -> tuple[Stream, SiteProxy | None]:
    """Connect to an address of the host that was checked, or to the site's proxy, which is returned.

    Raises RefusedError if no address may be reached, and OSError if none answers.
    """
    proxy = site_proxy(scheme, host, port)
    if proxy is None:
        return await _open_first(await resolve(host, port, rules)), None
    with suppress(OSError):  # behind a proxy, names of the Internet may be unknown: the site's proxy resolves them
        await resolve(host, port, rules)
    return await _open_first([Endpoint(proxy.host, proxy.port)]), proxy


async def _open_first(endpoints: list[Endpoint]) -> Stream:
    error: OSError = OSError("there is no address")
    for endpoint in endpoints:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return Stream(*await asyncio.open_connection(endpoint.host, endpoint.port, limit=CHUNK))
        except OSError as caught:  # TimeoutError, too
            error = caught
    raise error


async def open_tunnel(stream: Stream, proxy: SiteProxy, authority: str) -> bytes:
    """Ask the site's proxy for a tunnel; returns what the server has already sent. Raises OSError if it refuses."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    headers = [(b"Host", authority.encode())]
    if proxy.authorization is not None:
        headers.append((b"Proxy-Authorization", proxy.authorization))
    request = h11.Request(method=b"CONNECT", target=authority.encode(), headers=headers)
    await stream.write(connection.send(request) + connection.send(h11.EndOfMessage()))
    answer = await next_event(connection, stream)
    while isinstance(answer, h11.InformationalResponse):
        answer = await next_event(connection, stream)
    if not isinstance(answer, h11.Response) or not 200 <= answer.status_code < 300:
        status = answer.status_code if isinstance(answer, h11.Response) else "nothing"
        raise OSError(f"the site's proxy {proxy.host}:{proxy.port} answered {status}")
    return bytes(connection.trailing_data[0])


async def next_event(connection: h11.Connection, stream: Stream) -> h11.Event | None:
    """The next event of a connection; None if there is none while the other side has to answer.

    Raises h11.RemoteProtocolError if what arrives is not HTTP.
    """
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await stream.read())
    return event if isinstance(event, h11.Event) else None


async def tunnel(client: Stream, server: Stream, count: Callable[[int], None]) -> None:
    """Copy both directions until both have ended."""
    await asyncio.gather(_copy(client, server, count), _copy(server, client, count))


async def _copy(source: Stream, target: Stream, count: Callable[[int], None]) -> None:
    while data := await source.read():
        count(len(data))
        await target.write(data)
    if target.writer.can_write_eof():
        target.writer.write_eof()
