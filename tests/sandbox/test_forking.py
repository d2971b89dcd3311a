"""Processes that are forked from a server: how they start and end. Steps are: see `tests/runtime/test_local.py`."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ims.sandbox import forking
from ims.sandbox.forking import Channel, Forked, Received, serve


@contextmanager
def server(begin: Callable[[str], None], run: Callable[[Received], int]) -> Iterator[Channel]:
    """The way to a server, which ends with the context."""
    channel = Channel()
    pid = os.fork()
    if pid == 0:
        channel.requests.close()
        try:
            serve(channel.server, begin, run)
        finally:
            os._exit(0)
    channel.server.close()
    try:
        yield channel
    finally:
        channel.requests.close()
        os.waitpid(pid, 0)


def outcome(channel: Channel, request: Any) -> tuple[int, bytes]:
    """The exit code and the output of a process."""
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        process = channel.start(request, "title", nothing.fileno())
    with process.stdout as output:
        text = output.read()
    return process.wait(), text


def answer(received: Received) -> int:
    """Print the request."""
    received.take_streams()
    os.write(1, str(received.read()).encode())
    return 3


def refuse(_title: str) -> None:
    """Fail like a kernel that has no room for another namespace."""
    raise OSError(28, "No space left on device")


def test_process_gets_its_request() -> None:
    """Its exit code is what its function returns."""
    with server(lambda title: None, answer) as channel:
        assert outcome(channel, {"a": 1}) == (3, b"{'a': 1}")
        assert outcome(channel, [2]) == (3, b"[2]")


def test_process_that_cannot_be_started_says_why() -> None:
    """The reason is in its output, and it was not killed by a signal."""
    with server(refuse, answer) as channel:
        code, text = outcome(channel, {})
    assert code == os.EX_UNAVAILABLE
    assert text == b"ERROR: the process cannot be started: [Errno 28] No space left on device\n"


def test_process_that_ends_before_its_id_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ID and its exit code stay apart."""
    channel, sent = Channel(), threading.Event()

    def be_server() -> None:
        _, descriptors, _, _ = socket.recv_fds(channel.server, 100, 8)
        with socket.socket(fileno=descriptors[0]) as client:
            client.send(b"12345")
            client.send(b"0")
        for descriptor in descriptors[1:]:
            os.close(descriptor)
        sent.set()

    def read_late(*arguments: Any) -> Forked:
        assert sent.wait(20)
        return Forked(*arguments)

    monkeypatch.setattr(forking, "Forked", read_late)
    threading.Thread(target=be_server, daemon=True).start()
    with channel.requests, channel.server, open(os.devnull, "rb") as nothing:  # noqa: PTH123
        found = channel.start({}, "title", nothing.fileno())
    found.stdout.close()
    assert (found.pid, found.wait(), found.poll()) == (12345, 0, 0)
