"""Debian packages for a node: a server that passes requests on to the mirror of the machine."""

from __future__ import annotations

import ctypes
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TextIO

import httpx

from ims.demo.mirrors import debian_mirrors
from tests.node import ADDRESS, MIRROR_PORT

PLACES = {"debian": "DEBIAN_MIRROR", "debian-security": "DEBIAN_SECURITY_MIRROR"}
_ASKED = ("Range", "If-Modified-Since", "If-Range")
_TOLD = ("Content-Length", "Content-Range", "Last-Modified", "Content-Type", "Location")
_NETWORK = 0x40000000  # CLONE_NEWNET, setns(2)


class Mirror(ThreadingHTTPServer):
    """Listens in the network namespace of another process and downloads in that of this one."""

    daemon_threads = True

    def __init__(self, pid: int) -> None:
        self.upstream = {place: debian_mirrors()[name] for place, name in PLACES.items()}
        super().__init__((ADDRESS, MIRROR_PORT), _Handler, bind_and_activate=False)
        self.socket.close()
        with Path("/proc/thread-self/ns/net").open() as own, Path(f"/proc/{pid}/ns/net").open() as theirs:
            _enter(theirs)
            try:
                self.socket = socket.create_server(self.server_address, backlog=64)
            finally:
                _enter(own)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignores errors: apt-get closes connections that it no longer needs, and reports other faults itself."""


def _enter(network: TextIO) -> None:
    """Move this thread to another network namespace. (Python has `os.setns` since 3.12.)"""
    if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), _NETWORK) != 0:
        raise OSError(ctypes.get_errno(), f"cannot enter {network.name}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Mirror

    def do_GET(self) -> None:
        """Pass the request on."""
        place, _, rest = self.path.lstrip("/").partition("/")
        if place not in PLACES:
            self.send_error(404)
            return
        headers = {name: self.headers[name] for name in _ASKED if name in self.headers}
        headers["Accept-Encoding"] = "identity"
        with httpx.stream(self.command, f"{self.server.upstream[place]}/{rest}", headers=headers, timeout=60) as answer:
            self.send_response(answer.status_code)
            for name in _TOLD:
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            if "Content-Length" not in answer.headers:
                self.close_connection = True
                self.send_header("Connection", "close")
            self.end_headers()
            for chunk in answer.iter_raw():
                self.wfile.write(chunk)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Log nothing."""
