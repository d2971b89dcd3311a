"""Free ports for the servers of tests."""

from __future__ import annotations

import os
import socket


def free_ports(count: int) -> list[int]:
    """Returns consecutive ports without a listener, on each port and on the one 10000 above it.

    SeaweedFS derives its gRPC ports that way. Each process searches a range of its own, so that test runs that start at
    the same time, and the workers of one run, do not pick the same ports.
    """
    ports: list[int] = []
    for port in range(20000 + os.getpid() * 10 % 10000, 45000):
        with socket.socket() as probe, socket.socket() as higher:
            try:
                probe.bind(("127.0.0.1", port))
                higher.bind(("127.0.0.1", port + 10000))
            except OSError:
                ports.clear()
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError("no free ports")
