"""A web server on this machine, for tests that run the program as a process of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext

import httpx


@dataclass
class WebServer:
    """The address of the server, and the tokens that it received."""

    url: str = ""
    tokens: list[str | None] = field(default_factory=list)


@contextmanager
def serve(answer: Callable[[httpx.Request], httpx.Response], tls: SSLContext | None = None) -> Iterator[WebServer]:
    """Serve the responses that a function returns for requests."""
    found = WebServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.tokens.append(self.headers["Authorization"])
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            response = answer(httpx.Request(self.command, f"{found.url}{self.path}", content=body))
            self.send_response(response.status_code)
            for name, value in {**response.headers, "content-length": str(len(response.content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(response.content)

        do_POST = do_PATCH = do_DELETE = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        found.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


def constant(status: int, body: bytes, **headers: str) -> Callable[[httpx.Request], httpx.Response]:
    """Return a function that returns the same response for every request."""
    return lambda _request: httpx.Response(status, content=body, headers=headers)
