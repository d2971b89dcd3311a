"""The network of a sandbox: a namespace that has no interface but loopback, on which a proxy listens."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ims.errors import ConfigurationError
from ims.network.policy import Policy
from ims.network.process import proxy_environment, run_proxy
from ims.network.report import Report

PROXY = ("127.0.0.1", 3128)
BACKLOG = 256
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


@dataclass(frozen=True)
class SandboxNetwork:
    """`namespace` is a descriptor for setns, valid while the context that provides it is open.

    `environment` are the variables with which programs find the proxy. `report` is complete when the context has ended.
    """

    namespace: int
    environment: dict[str, str]
    report: Report


@contextmanager
def provide(policy: Policy) -> Iterator[SandboxNetwork]:
    """Make a network namespace whose only way out is a proxy that serves `policy`.

    Raises ConfigurationError if this process may not make one, and the errors of `ims.network.process.run_proxy`.
    """
    namespace, listener = _make_namespace()
    try:
        with run_proxy(policy, listener) as report:
            yield SandboxNetwork(namespace, proxy_environment(":".join(map(str, PROXY))), report)
    finally:
        os.close(namespace)


def _make_namespace() -> tuple[int, socket.socket]:
    """Returns a descriptor of a new namespace, and a socket that listens in it.

    A thread makes them: a network namespace belongs to a thread, and this one ends at once.
    """
    made: list[tuple[int, socket.socket]] = []
    errors: list[OSError] = []

    def enter() -> None:
        try:
            made.append(_enter_namespace())
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=enter, name="network-namespace")
    thread.start()
    thread.join()
    for error in errors:
        raise ConfigurationError(
            f"the network namespace of a sandbox cannot be made: {error}", "Run the service as root on Linux"
        ) from None
    return made[0]


def _enter_namespace() -> tuple[int, socket.socket]:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    listener = socket.socket()
    try:
        fcntl.ioctl(listener, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(PROXY)
        listener.listen(BACKLOG)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC), listener
    except OSError:
        listener.close()
        raise
