"""The lock of a workspace.

Users can start the task of an earlier step again while a later step runs. Programs of the job, which work in the
workspace then, could put links in the place of what the earlier step writes with the rights of the service.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ims.errors import UnavailableError
from ims.workspace import Workspace

WAIT_SECONDS = 45.0
"""How long a step that was killed, or its pod, may take to end. It is less than the time that a shell has to open."""
_POLL_SECONDS = 0.05


@contextmanager
def locked(workspace: Workspace, *, shared: bool) -> Iterator[None]:
    """Keep other steps out of a workspace; with `shared`, only those that do not share it.

    Raises UnavailableError if another step works there and does not end.
    """
    folder = os.open(workspace.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(folder, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _lock(folder: int, kind: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return fcntl.flock(folder, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise UnavailableError("another step of the job is running", "Wait until it has ended") from None
            time.sleep(_POLL_SECONDS)
