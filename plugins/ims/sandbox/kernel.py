"""System calls that Python's standard library lacks, see the manual pages of section 2. Errors are OSError."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Collection
from pathlib import Path

NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x20000, 0x02000000, 0x04000000, 0x08000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
"""Kinds of namespaces."""
READ_ONLY, NO_SETUID, NO_DEVICES, NO_EXECUTION = 1, 2, 4, 8
"""Attributes of mounts. They have the same values for mount(2) and mount_setattr(2)."""
REMOUNT, BIND = 0x20, 0x1000
"""Flags for mount(2)."""

_RECURSIVE, _PRIVATE = 0x4000, 1 << 18
_IDMAP = 0x100000
_AT_FDCWD, _AT_NO_FOLLOW, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x100, 0x1000, 0x8000
_TREE_CLONE, _TREE_CLOEXEC = 1, 0o2000000
_MOVE_FROM_DESCRIPTOR = 4
_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_SECUREBITS, _PR_SET_NO_NEW_PRIVS = 1, 22, 24, 28, 38
_SECCOMP_MODE_FILTER = 2
_NO_SETUID_FIXUP = 4
_CAPABILITY_VERSION = 0x20080522
_MAX_CAPABILITY = 63
# The same numbers on all architectures.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(kinds: int) -> None:
    """Leave the namespaces of these kinds for new ones."""
    _check(_libc.unshare(kinds), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Enter a namespace."""
    _check(_libc.setns(descriptor, kind), "setns")


def mount(source: str, target: Path, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount a new file system."""
    arguments = (os.fsencode(source), os.fsencode(target), os.fsencode(kind), ctypes.c_ulong(flags))
    _check(_libc.mount(*arguments, os.fsencode(options) or None), f"mount {kind} on {target}")


def make_mounts_private() -> None:
    """Stop the propagation of mounts between this mount namespace and others."""
    _check(_libc.mount(None, b"/", None, ctypes.c_ulong(_RECURSIVE | _PRIVATE), None), "make / private")


def clone_mount(source: Path, attributes: int, user_namespace: int | None = None, *, recursive: bool = False) -> int:
    """Make a detached copy of the mount at `source`; returns its descriptor, for `attach_mount`.

    With a user namespace, owners on the disk are mapped to the users of that namespace. Its programs may have made the
    files there, so `source` may not be a link. Raises OSError.
    """
    mapped, no_follow = (0, 0) if user_namespace is None else (_IDMAP, _AT_NO_FOLLOW)
    tree = _TREE_CLONE | _TREE_CLOEXEC | no_follow | (_AT_RECURSIVE if recursive else 0)
    descriptor = _call(_OPEN_TREE, _AT_FDCWD, os.fsencode(source), tree, what=f"open_tree {source}")
    if stat.S_ISLNK(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ELOOP, f"{source} is a link")
    structure = struct.pack("QQQQ", attributes | mapped, 0, 0, user_namespace or 0)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    _call(_MOUNT_SETATTR, descriptor, b"", flags, structure, len(structure), what=f"mount_setattr {source}")
    return descriptor


def attach_mount(descriptor: int, target: Path) -> None:
    """Attach a detached mount and close its descriptor."""
    arguments = (descriptor, b"", _AT_FDCWD, os.fsencode(target), _MOVE_FROM_DESCRIPTOR)
    _call(_MOVE_MOUNT, *arguments, what=f"move_mount {target}")
    os.close(descriptor)


def pivot_root(folder: Path) -> None:
    """Make a mount the root of the file system, and detach the old root."""
    os.chdir(folder)
    _call(_PIVOT_ROOT[os.uname().machine], b".", b".", what="pivot_root")
    _check(_libc.umount2(b".", _DETACH), "detach the old root")
    os.chdir("/")


def die_with_parent(signal: int) -> None:
    """Get a signal when the parent process ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0), "PR_SET_PDEATHSIG")


def set_hostname(name: str) -> None:
    """Set the host name of the UTS namespace."""
    _check(_libc.sethostname(name.encode(), len(name)), "sethostname")


def keep_capabilities_of_root() -> None:
    """Keep all capabilities when this process changes its users."""
    _check(_libc.prctl(_PR_SET_SECUREBITS, _NO_SETUID_FIXUP, 0, 0, 0), "PR_SET_SECUREBITS")


def access_files_as(user: int) -> None:
    """Access files as this user and group, and keep all capabilities."""
    keep_capabilities_of_root()
    _libc.setfsgid(user)
    _libc.setfsuid(user)


def keep_capabilities(numbers: Collection[int]) -> None:
    """Drop all capabilities except these, for good."""
    for number in range(_MAX_CAPABILITY + 1):
        if number not in numbers and _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) < 0 and ctypes.get_errno() != 22:
            _check(-1, "PR_CAPBSET_DROP")
    bits = sum(1 << number for number in numbers)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    header, data = struct.pack("Ii", _CAPABILITY_VERSION, 0), struct.pack("IIIIII", low, low, 0, high, high, 0)
    _check(_libc.capset(header, data), "capset")


def forbid_new_privileges() -> None:
    """Stop programs from gaining privileges by set-id bits and file capabilities."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")


def filter_calls(program: bytes) -> None:
    """Load a seccomp filter for this process and all its children."""
    buffer = ctypes.create_string_buffer(program, len(program))
    structure = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    _check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, structure, 0, 0), "PR_SET_SECCOMP")


def _call(number: int, *arguments: int | bytes, what: str) -> int:
    values = (ctypes.c_long(value) if isinstance(value, int) else value for value in arguments)
    return _check(_libc.syscall(ctypes.c_long(number), *values), what)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
