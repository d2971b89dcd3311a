"""A web server that is never silent and never ready: it drips its answer byte by byte, or sends without end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000000000000\r\n\r\n"


@contextmanager
def dripping_server(at_once: bytes = b"", drop: bytes = b"x", seconds: float = 0.05) -> Iterator[str]:
    """Serve on a free port of 127.0.0.1; yields the address of the root.

    Each connection gets `at_once`, then `drop` every `seconds` until the client hangs up.
    """
    stop = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(at_once)
            while not stop.wait(seconds):
                connection.sendall(drop)

    def accept() -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)
    thread.join()
