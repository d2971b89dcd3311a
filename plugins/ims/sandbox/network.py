"""The network of a sandbox: a namespace that has no interface but loopback, on which a proxy listens."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from ims.errors import ConfigurationError
from ims.network.policy import Policy
from ims.network.process import proxy_environment, run_proxy
from ims.network.report import Report
from ims.network.senders import PROGRAMS_ADDRESS, SCRIPTS_ADDRESS
from ims.sandbox import kernel

PROXY = (PROGRAMS_ADDRESS, 3128)
SCRIPTS_PROXY = f"http://{SCRIPTS_ADDRESS}:{PROXY[1]}"
"""The same proxy for the scripts of a recipe, see `ims.network.senders`."""
_ALL_ADDRESSES = ""  # of the namespace: those of loopback
BACKLOG = 256
Result = TypeVar("Result")

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


@dataclass(frozen=True)
class SandboxNetwork:
    """`namespace` is a descriptor for setns, valid while the context that provides it is open.

    `environment` are the variables with which programs find the proxy. `report` is complete when the context has ended.
    `resolv_conf` is the content of /etc/resolv.conf in the sandbox.
    """

    namespace: int
    environment: dict[str, str]
    report: Report
    resolv_conf: str = "# Names are resolved by the proxy.\n"


@contextmanager
def provide(policy: Policy) -> Iterator[SandboxNetwork]:
    """Make a network namespace whose only way out is a proxy that serves `policy`.

    Raises ConfigurationError if this process may not make one, and the errors of `ims.network.process.run_proxy`.
    """
    namespace, listener = in_thread(_enter_new_namespace)
    try:
        with run_proxy(policy, listener) as report:
            yield SandboxNetwork(namespace, proxy_environment(policy, ":".join(map(str, PROXY))), report)
    finally:
        os.close(namespace)


def in_thread(function: Callable[[], Result]) -> Result:
    """Call a function that enters a network namespace in a thread, which ends at once: namespaces belong to threads.

    Raises ConfigurationError if this process may not do that.
    """
    results: list[Result] = []
    errors: list[OSError] = []

    def call() -> None:
        try:
            results.append(function())
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=call, name="network-namespace")
    thread.start()
    thread.join()
    for error in errors:
        raise ConfigurationError(
            f"the network namespace of a sandbox cannot be made: {error}", "Run the service as root on Linux"
        ) from None
    return results[0]


def enter(namespace: int) -> None:
    """Move this thread, and what it starts from now on, to a network namespace. Raises OSError."""
    kernel.setns(namespace, kernel.NEWNET)


def listen(address: str = PROGRAMS_ADDRESS) -> socket.socket:
    """Enable loopback in the network namespace of this thread; returns a socket that listens there for the proxy."""
    listener = socket.socket()
    try:
        fcntl.ioctl(listener, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, PROXY[1]))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _enter_new_namespace() -> tuple[int, socket.socket]:
    kernel.unshare(kernel.NEWNET)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC), listen(_ALL_ADDRESSES)
