"""An http proxy that lets a program reach only what its policy allows.

It resolves each name, checks the addresses, and connects to exactly the address that it has checked. It serves one
request for each connection, runs as an unprivileged user outside the sandbox, and reads no configuration but its
policy and the variables of the site's proxy.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11

from ims.errors import ImsError
from ims.network.addresses import RefusedError, in_brackets
from ims.network.exchange import Exchange
from ims.network.permissions import Permissions, UndeclaredError
from ims.network.policy import DEFAULT_PORTS, Policy, join
from ims.network.report import Report
from ims.network.senders import sender_of
from ims.network.streams import CHUNK, MAX_HEAD, Stream, next_event, open_stream, open_tunnel, tunnel

_HOST = re.compile(r"[A-Za-z0-9._:%-]{1,253}")
_TARGET = re.compile(r"[!-\[\]-~]+")  # printable ASCII without a space and a backslash


class BadRequestError(Exception):
    """The request is not one for an http proxy."""


@dataclass(frozen=True)
class Limits:
    """What a program can use of the proxy. The step that runs the program has a deadline of its own."""

    connections: int = 256
    head_seconds: float = 30
    idle_seconds: float = 300
    total_seconds: float = 12 * 3600


class Proxy:
    """Serves a policy and counts what it does in a report."""

    def __init__(self, policy: Policy, report: Report, limits: Limits | None = None) -> None:
        self._permissions = Permissions(policy)
        self._rules = policy.rules
        self._hint = policy.hint
        self._report = report
        self._limits = limits or Limits()
        self._active: set[asyncio.Task[None]] = set()

    async def run(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; then end all connections."""
        server = await asyncio.start_server(self._accept, sock=listener, limit=CHUNK, backlog=self._limits.connections)
        async with server:
            await stop.wait()
        for task in self._active:
            task.cancel()
        await asyncio.gather(*self._active, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client, task = Stream(reader, writer), asyncio.current_task()
        assert task is not None
        if len(self._active) >= self._limits.connections:
            client.close()
            return
        self._active.add(task)
        task.add_done_callback(self._active.discard)
        with suppress(OSError, h11.ProtocolError, asyncio.CancelledError):
            async with asyncio.timeout(self._limits.total_seconds):
                await self._serve(client)
        client.close()

    async def _serve(self, client: Stream) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        try:
            async with asyncio.timeout(self._limits.head_seconds):
                request = await next_event(connection, client)
            if isinstance(request, h11.Request):
                await self._answer(client, connection, request)
        except (BadRequestError, h11.RemoteProtocolError) as error:
            await _respond(client, connection, 400, str(error))
        except TimeoutError:
            await _respond(client, connection, 408, "the request took too long")
        else:
            async with asyncio.timeout(self._limits.head_seconds):
                await client.finish()

    async def _answer(self, client: Stream, connection: h11.Connection, request: h11.Request) -> None:
        """Serve a request, or answer why it is not served."""
        host, port, scheme = destination(request)
        name = join(host, port)
        try:
            self._permissions.check(host, port)
            agent = next((value for field, value in request.headers if field == b"user-agent"), b"")
            self._report.contact(sender_of(agent, client.address), name)
            async with asyncio.timeout(self._limits.idle_seconds) as deadline:
                await self._forward(client, connection, request, (host, port, scheme), _extend(deadline, self._limits))
        except UndeclaredError as error:
            self._report.refuse(name, str(error), is_forbidden=False)
            await _respond(client, connection, 403, f"{name} is refused: {error}. {self._hint}")
        except RefusedError as error:
            self._report.refuse(name, error.reason, is_forbidden=True)
            await _respond(client, connection, 403, str(error))
        except (OSError, h11.RemoteProtocolError, ImsError) as error:
            await _respond(client, connection, 502, f"{name} does not answer: {error or type(error).__name__}")

    async def _forward(
        self,
        client: Stream,
        connection: h11.Connection,
        request: h11.Request,
        target: tuple[str, int, str],
        progress: Callable[[], None],
    ) -> None:
        host, port, scheme = target
        server, site = await open_stream(host, port, scheme, self._rules)
        client.progress = server.progress = progress
        traffic = self._report.traffic(join(host, port))

        def count(number: int) -> None:
            traffic.bytes += number

        try:
            if request.method == b"CONNECT":
                early = await open_tunnel(server, site, f"{in_brackets(host)}:{port}") if site is not None else b""
                await client.write(connection.send(h11.Response(status_code=200, headers=[])) + early)
                await server.write(connection.trailing_data[0])
                await tunnel(client, server, count)
            else:
                url = request.target.decode("ascii")
                redirect = _redirect(self._permissions, url)
                await Exchange(client, connection, request, url, server, count, redirect).run(site)
        finally:
            server.close()


def destination(request: h11.Request) -> tuple[str, int, str]:
    """The host, the port and the scheme that a request is for. Raises BadRequestError if it names none."""
    target, is_tunnel = request.target.decode("latin-1"), request.method == b"CONNECT"
    try:
        parts = urlsplit(f"//{target}" if is_tunnel else target)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadRequestError("the request names no host") from None
    if is_tunnel and (port is None or parts.netloc != target):
        raise BadRequestError("CONNECT needs HOST:PORT")
    if not is_tunnel and (parts.scheme != "http" or not _TARGET.fullmatch(target)):
        raise BadRequestError("this is a proxy: the request needs an http URL")
    # Other servers and proxies read a login or a backslash as another host.
    if not host or not _HOST.fullmatch(host) or "@" in parts.netloc or port == 0:
        raise BadRequestError("the request names no host")
    return host, port or DEFAULT_PORTS["http"], "https" if is_tunnel else "http"


def _extend(deadline: asyncio.Timeout, limits: Limits) -> Callable[[], None]:
    """A function that moves the deadline: the connection was not idle."""
    loop = asyncio.get_running_loop()

    def progress() -> None:
        if not deadline.expired():
            deadline.reschedule(loop.time() + limits.idle_seconds)

    return progress


def _redirect(permissions: Permissions, url: str) -> Callable[[str], None]:
    return lambda location: permissions.add_redirect(url, location)


async def _respond(client: Stream, connection: h11.Connection, status: int, text: str) -> None:
    """Send an error, unless a response has already begun."""
    if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        client.close()
        return
    body = f"{text[:2000]}\n".encode(errors="replace")
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("Connection", "close")]
    response = connection.send(h11.Response(status_code=status, headers=headers))
    with suppress(OSError):
        async with asyncio.timeout(5):
            await client.write((response or b"") + (connection.send(h11.Data(data=body)) or b""))
            await client.finish()
