"""Starts processes by forking a server that has already imported their modules.

A new Python program needs 0.35 to 0.55 s of processor time before it does anything. A fork needs 0.03 s, but is a copy
of the server. So the server must not know a secret: it never reads a request. It receives the descriptors of a request,
forks, and closes them. Only the fork reads what they contain. Requests come over a pair of sockets without an address,
which only the process that made it and its forks can use.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any, NoReturn

from ims.sandbox import kernel

_MAX_TITLE = 4096
_DESCRIPTORS = 4
"""Of a request: its connection, its content, and its standard input and output."""
_FIRST = 3
"""The descriptor after standard input, output and error."""


class Channel:
    """A connection to a server: clients use the end `requests`, the server uses the end `server`."""

    def __init__(self) -> None:
        self.requests, self.server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def start(self, request: Any, title: str, stdin: int) -> Forked:
        """Start a process that reads standard input from `stdin`; its output is in a pipe. Raises OSError.

        `request` can be represented in JSON. `title` is no secret.
        """
        # Packets: a process may end before its ID is read, and a stream would join the ID and the exit code.
        connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reader, writer = os.pipe()
        content = sealed(json.dumps(request))
        output = os.fdopen(reader, "rb")
        try:
            socket.send_fds(self.requests, [title.encode()], [theirs.fileno(), content, stdin, writer])
        except OSError:
            connection.close()
            output.close()
            raise
        finally:
            theirs.close()
            os.close(content)
            os.close(writer)
        return Forked(connection, output)


def sealed(content: str) -> int:
    """Returns a descriptor from which a process reads the content. No other process can open it, and no file has it."""
    descriptor = os.memfd_create("input")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


class Forked:
    """A process that a server has forked, with the part of the interface of `subprocess.Popen` that we use.

    Raises ConnectionError if the server ended before it forked.
    """

    def __init__(self, connection: socket.socket, stdout: IO[bytes]) -> None:
        self._connection, self._code = connection, None
        self.stdout = stdout
        pid = connection.recv(16)
        if not pid:
            connection.close()
            stdout.close()
            raise ConnectionError("the fork server has ended")
        self.pid = int(pid)

    _code: int | None

    def wait(self) -> int:
        """Wait until the process ends; returns its exit code, which is negative if a signal killed it."""
        if self._code is None:
            answer = self._connection.recv(16)
            if self._code is None:  # a signal handler may have got the answer meanwhile
                self._code = int(answer) if answer else -signal.SIGKILL
        return self._code

    def poll(self) -> int | None:
        """Returns the exit code, or None if the process runs."""
        if self._code is None and not select.select([self._connection], [], [], 0)[0]:
            return None
        return self.wait()

    def kill(self) -> None:
        """End the process. Does nothing if it has ended."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)


@dataclass(frozen=True)
class Received:
    """What a fork receives: the descriptors of the request, and of its standard input and output."""

    content: int
    stdin: int
    stdout: int

    def read(self) -> Any:
        """Returns the request, once. From now on, this process knows secrets."""
        with os.fdopen(self.content, "rb") as file:
            return json.loads(file.read())

    def take_streams(self) -> None:
        """Use the standard input and output of the request; close all other descriptors but the content."""
        os.dup2(self.stdin, 0)
        os.dup2(self.stdout, 1)
        os.dup2(self.stdout, 2)
        os.closerange(_FIRST, self.content)
        os.closerange(self.content + 1, os.sysconf("SC_OPEN_MAX"))


def serve(server: socket.socket, begin: Callable[[str], None], run: Callable[[Received], int]) -> None:
    """Fork for each request, until no client is left.

    A fork calls `begin` with the title of the request. Then it starts a process that calls `run` and ends with the exit
    code that this returns. The fork waits until that process ends, and ends it if the client has ended.
    """
    signal.signal(signal.SIGCHLD, _reap)
    gc.freeze()
    while True:
        title, descriptors, _, _ = socket.recv_fds(server, _MAX_TITLE, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        if not title:
            return
        if _fork() == 0:
            server.close()
            _keep_or_exit(title.decode(), descriptors, begin, run)
        for descriptor in descriptors:
            os.close(descriptor)


def _fork() -> int:
    """Like `os.fork`, but returns -1 if there can be no more processes: the server outlives that."""
    try:
        return os.fork()
    except OSError:
        return -1


def _reap(*_: object) -> None:
    """Reap the forks that have ended. If the kernel did this, their processor time would be lost."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _keep_or_exit(
    title: str, descriptors: Sequence[int], begin: Callable[[str], None], run: Callable[[Received], int]
) -> None:
    """Handle a request in its fork. This function never returns."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        client = socket.socket(fileno=descriptors[0])
        client.send(str(os.getpid()).encode())
        try:
            begin(title)
            parent = os.pidfd_open(os.getpid())
            pid = os.fork()
        except OSError as error:
            os.write(descriptors[3], f"ERROR: the process cannot be started: {error}\n".encode())
            client.send(str(os.EX_UNAVAILABLE).encode())
            return
        if pid == 0:
            _die_with(parent)
            client.close()
            _run_or_exit(Received(*descriptors[1:]), run)
        for descriptor in (parent, *descriptors[1:]):
            os.close(descriptor)
        code = _watch(pid, client)
        client.send(str(code).encode())
    except OSError:
        pass  # the client has ended
    finally:
        os._exit(0)


def _die_with(parent: int) -> None:
    """End this process with its parent, also if that has ended already; `parent` is a descriptor of the parent."""
    kernel.die_with_parent(signal.SIGKILL)
    if select.select([parent], [], [], 0)[0]:
        os._exit(1)


def _watch(pid: int, client: socket.socket) -> int:
    """Wait until a child ends; returns its exit code. Ends it if the client ends."""
    process = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.register(client, select.POLLIN | select.POLLRDHUP)
    if all(descriptor != process for descriptor, _ in poll.poll()):
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _run_or_exit(received: Received, run: Callable[[Received], int]) -> NoReturn:
    """End this process like a program that exits with what `run` returns."""
    code = 1
    try:
        code = run(received)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
