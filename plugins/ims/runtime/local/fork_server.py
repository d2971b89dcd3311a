"""The server from which the steps of this machine are forked: `python -m ims.runtime.local.fork_server DESCRIPTOR`.

It has the environment of a step, without credentials. It ends when no scheduler, worker and task is left.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from ims import steps
from ims.runtime.local import entrypoint
from ims.sandbox import namespaces
from ims.sandbox.forking import Channel, Forked, Received, serve

channel: Channel | None = None
"""The channel to the server, which this process inherited from the scheduler. None: steps are new programs."""

# Modules that functions import only when they use them.
_FURTHER = ("boto3", "ims.sandbox.inside", "ims.recipes.availability")


def start(environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the server. This process and those that it forks from now on can use it."""
    global channel
    made = Channel()
    end = made.server.fileno()
    command = [sys.executable, "-P", "-m", __name__, str(end)]
    server = subprocess.Popen(command, env=environment, pass_fds=[end], stdin=subprocess.DEVNULL)
    made.server.close()
    channel = made
    return server


def fork(name: str, arguments: list[str], stdin: int, environment: Mapping[str, str], folder: str) -> Forked:
    """Start a step as a fork of the server, in namespaces of its own. Raises OSError: there is no server."""
    if channel is None:
        raise ConnectionError("there is no fork server")
    request = {"arguments": arguments, "environment": dict(environment), "folder": folder}
    return channel.start(request, " ".join([name, *arguments]), stdin)


def preload() -> None:
    """Import what steps and their functions in sandboxes need."""
    for module in pkgutil.iter_modules(steps.__path__, f"{steps.__name__}."):
        importlib.import_module(module.name)
    for name in _FURTHER:
        importlib.import_module(name)


def _begin(title: str) -> None:
    from setproctitle import setproctitle

    os.setsid()
    setproctitle(title)
    namespaces.leave()


def _run(received: Received) -> int:
    received.take_streams()
    namespaces.mount_processes()
    request: dict[str, Any] = received.read()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    return entrypoint.run(request["arguments"])


if __name__ == "__main__":
    preload()
    serve(socket.socket(fileno=int(sys.argv[1])), _begin, _run)
