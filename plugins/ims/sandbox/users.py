"""User namespaces. Each box has a range of users of its own, which owns nothing on this machine.

A box runs as root of its namespace, and that is an ordinary user outside of it.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ims.sandbox import kernel
from ims.sandbox.limits import Limits, limit_resources

COUNT = 1 << 24
"""How many users and groups a box has for itself."""
# Nothing assigns these: users of directories, subordinate ids and containers end below them.
_FIRST, _RANGES = 0x80000000, 0x40
_END = _FIRST + _RANGES * COUNT
_ALL = 0xFFFFFFFF
"""The number that no user can have."""
_LOCKS = Path("/run/lock/ims-sandbox")
Result = TypeVar("Result")


@contextmanager
def reserved_range() -> Iterator[int]:
    """Reserve a range of `COUNT` users for as long as the context is active; yields the first. Raises OSError."""
    _LOCKS.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Pods of one node do not see each other's locks. A random start makes a collision unlikely; it would be harmless
    # as long as the boxes cannot see each other's processes and files.
    start = random.randrange(_RANGES)  # noqa: S311
    for offset in range(_RANGES):
        number = (start + offset) % _RANGES
        descriptor = os.open(_LOCKS / str(number), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        try:
            yield _FIRST + number * COUNT
        finally:
            os.close(descriptor)
        return
    raise OSError("all ranges of users are in use")


def user_namespace(first: int, limits: Limits, *, everyone: bool = False) -> int:
    """A new user namespace, in which user and group 0 are `first`; returns its descriptor.

    With `everyone`, it also has the users of this machine with higher numbers, except those of other boxes.
    No process is in it yet. All its users together have at most as many processes as `limits` says. Raises OSError.
    """
    ranges = [(0, first, COUNT)]
    if everyone:
        ranges += [(COUNT, COUNT, _FIRST - COUNT), (_END, _END, _ALL - _END)]
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            # The kernel remembers the limit of an ordinary user who makes a namespace, and applies it to the whole.
            kernel.keep_capabilities_of_root()
            os.setresgid(first, first, first)
            os.setresuid(first, first, first)
            limit_resources(limits)
            kernel.unshare(kernel.NEWUSER)
            os.write(writer, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    try:
        if not os.read(reader, 1):
            raise OSError("this machine does not permit user namespaces (sysctl user.max_user_namespaces)")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text("".join("{} {} {}\n".format(*numbers) for numbers in ranges))
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def call_as(user: int, function: Callable[[], Result]) -> Result:
    """Call a function that accesses files as this user of a box. The host's root can own no file in an idmapped mount.

    It runs in a thread: the user with whose rights files are accessed belongs to the thread.
    """
    with ThreadPoolExecutor(1, initializer=kernel.access_files_as, initargs=(user,)) as thread:
        return thread.submit(function).result()
