"""A running proxy and a web server, for tests of the proxy."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ims.network.policy import Access, Policy
from ims.network.proxy import Limits, Proxy
from ims.network.report import Report

LOOPBACK = ("127.0.0.0/8",)


@dataclass
class WebServer:
    """Answers "hello". A path `/to?URL` redirects, and POST returns what was sent."""

    host: str
    port: int = 0
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        """HOST:PORT."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The address of the root."""
        return f"http://{self.endpoint}/"


@contextmanager
def web_server(host: str = "127.0.0.1") -> Iterator[WebServer]:
    """Serve on a free port of a loopback address."""
    served = WebServer(host)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, _, location = self.path.partition("?")
            self._answer(302 if path == "/to" else 200, b"hello", location)

        def do_POST(self) -> None:
            self._answer(200, self.rfile.read(int(self.headers["Content-Length"])), "")

        def _answer(self, status: int, body: bytes, location: str) -> None:
            served.requests.append(f"{self.command} {self.path}")
            served.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 302:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer((host, 0), Handler) as server:
        served.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield served
        server.shutdown()
        thread.join()


@dataclass
class Client:
    """Speaks to a proxy that listens on `port`."""

    port: int
    report: Report = field(default_factory=Report)

    def send(self, request: str | bytes, *, seconds: float = 20) -> bytes:
        """The whole answer to some bytes; empty if the proxy hangs up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.sendall(request.encode("latin-1") if isinstance(request, str) else request)
            return read_all(connection)

    def get(self, url: str, *headers: str) -> bytes:
        """The answer to a request for a URL."""
        return self.send("\r\n".join([f"GET {url} HTTP/1.1", "Host: client", *headers, "", ""]))

    def connect(self, endpoint: str, data: str = "") -> bytes:
        """The answer to a request for a tunnel, into which `data` is sent at once."""
        return self.send(f"CONNECT {endpoint} HTTP/1.1\r\nHost: {endpoint}\r\n\r\n{data}")


def read_all(connection: socket.socket) -> bytes:
    """Read until the peer closes the connection."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


@contextmanager
def proxy(policy: Policy, limits: Limits | None = None) -> Iterator[Client]:
    """Run a proxy in a thread, on a free port of 127.0.0.1."""
    report, listener = Report(), socket.create_server(("127.0.0.1", 0))
    client = Client(listener.getsockname()[1], report)
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(Proxy(policy, report, limits).run(listener, stop)))
    thread.start()
    try:
        yield client
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def allowing(access: Access, *endpoints: str) -> Policy:
    """A policy under which the test's own servers on 127.0.0.1 may be reached."""
    return Policy(access, endpoints, LOOPBACK)
