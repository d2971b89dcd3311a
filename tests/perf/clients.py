"""Many clients of one server in one process, which leave the processor time to the server.

A client of httpx needs as much of it for a request as the server does for the answer.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

MOST_HEADERS = 64 * 1024


@dataclass(frozen=True)
class Request:
    """A request; `body` is sent as JSON."""

    path: str
    method: str = "GET"
    body: object = None

    def encode(self, headers: Mapping[str, str]) -> bytes:
        """Returns what a client sends."""
        content = b"" if self.body is None else json.dumps(self.body).encode()
        about = {"Content-Type": "application/json", "Content-Length": str(len(content))} if content else {}
        lines = [
            f"{self.method} {self.path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in {**headers, **about}.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass(frozen=True)
class Answer:
    """The status of an answer, and the seconds until it was complete."""

    status: int
    seconds: float


def send_all(
    url: str, headers: Mapping[str, str], make: Callable[[], Request], clients: int, seconds: float
) -> list[Answer]:
    """Sends requests over as many connections, each as soon as the answer to the last is complete."""
    return asyncio.run(_send_all(url, headers, make, clients, time.monotonic() + seconds))


async def _send_all(
    url: str, headers: Mapping[str, str], make: Callable[[], Request], clients: int, deadline: float
) -> list[Answer]:
    parts = urlsplit(url)
    common = {"Host": parts.netloc, "Accept-Encoding": "gzip", **headers}
    answers: list[Answer] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=MOST_HEADERS)
        while (begin := time.monotonic()) < deadline:
            writer.write(make().encode(common))
            status = await _read(reader)
            answers.append(Answer(status, time.monotonic() - begin))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


async def _read(reader: asyncio.StreamReader) -> int:
    """Reads an answer that has a Content-Length; returns its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    await reader.readexactly(int(head.partition("content-length:")[2].partition("\r\n")[0]))
    return int(head.split(" ", 2)[1])
