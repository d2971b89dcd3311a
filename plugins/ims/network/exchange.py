"""Forwards one http request and its response. Both sides are parsed, so that nothing can be smuggled past the proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11

from ims.network.streams import MAX_HEAD, Stream, next_event
from ims.network.upstream import SiteProxy

Headers = list[tuple[bytes, bytes]]

# Headers of one connection (RFC 9110, 7.6.1). The proxy writes Host itself, and answers Expect.
_DROPPED = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te"),
    *(b"upgrade", b"host", b"expect"),
}
_CLOSE = (b"Connection", b"close")


@dataclass(frozen=True)
class Exchange:
    """A request of `client` for the http URL `url`, which is sent to `server`.

    `redirect` is called with the Location of the response, `count` with numbers of bytes.
    """

    client: Stream
    connection: h11.Connection
    request: h11.Request
    url: str
    server: Stream
    count: Callable[[int], None]
    redirect: Callable[[str], None]

    async def run(self, proxy: SiteProxy | None) -> None:
        """Forward the request and the response; the connections serve no other request.

        Raises OSError if a peer goes away, and h11.ProtocolError if it does not send HTTP.
        """
        server = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        await self.server.write(server.send(self._request(proxy)))
        sender = asyncio.create_task(self._send_body(server))
        try:
            await self._send_response(server)
        finally:
            sender.cancel()
            with suppress(asyncio.CancelledError, OSError, h11.ProtocolError):
                await sender

    def _request(self, proxy: SiteProxy | None) -> h11.Request:
        parts = urlsplit(self.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if proxy is not None:
            target = f"http://{parts.netloc}{target}"
        headers: Headers = [(b"Host", parts.netloc.encode()), *forwarded(self.request.headers)]
        if proxy is not None and proxy.authorization is not None:
            headers.append((b"Proxy-Authorization", proxy.authorization))
        return h11.Request(method=self.request.method, target=target.encode(), headers=[*headers, _CLOSE])

    async def _send_body(self, server: h11.Connection) -> None:
        if self.connection.they_are_waiting_for_100_continue:
            await self.client.write(self.connection.send(h11.InformationalResponse(status_code=100, headers=[])))
        while isinstance(event := await next_event(self.connection, self.client), h11.Data):
            self.count(len(event.data))
            await self.server.write(server.send(h11.Data(data=event.data)))
        if isinstance(event, h11.EndOfMessage):
            await self.server.write(server.send(h11.EndOfMessage()))

    async def _send_response(self, server: h11.Connection) -> None:
        event = await next_event(server, self.server)
        while isinstance(event, h11.InformationalResponse):
            event = await next_event(server, self.server)
        if not isinstance(event, h11.Response):
            raise h11.RemoteProtocolError("the server closed the connection without a response")
        for name, value in event.headers:
            if name == b"location" and 300 <= event.status_code < 400:
                self.redirect(value.decode("latin-1"))
        headers = [*forwarded(event.headers), _CLOSE]
        response = h11.Response(status_code=event.status_code, headers=headers, reason=event.reason)
        await self.client.write(self.connection.send(response))
        while isinstance(event := await next_event(server, self.server), h11.Data):
            self.count(len(event.data))
            await self.client.write(self.connection.send(h11.Data(data=event.data)))
        if not isinstance(event, h11.EndOfMessage):
            raise h11.RemoteProtocolError("the server closed the connection within a response")
        await self.client.write(self.connection.send(h11.EndOfMessage()))


def forwarded(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers that a proxy passes on: without those of the connection, and without those that they name."""
    pairs = [(bytes(name), bytes(value)) for name, value in headers]
    named = {item.strip().lower() for name, value in pairs if name == b"connection" for item in value.split(b",")}
    named -= {b"content-length", b"transfer-encoding"}  # the body depends on them
    return [(name, value) for name, value in pairs if name not in _DROPPED and name not in named]
