"""A seccomp filter that forbids new user namespaces: inside one, a process has all capabilities.

It could then, for example, unmount the image root's mounts, on which the next session relies.
The filter is a BPF program, see seccomp(2). bubblewrap loads it.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

_CLONE_NEWUSER = 0x10000000
_CLONE3 = 435  # on all architectures; its flags are in memory, which a filter cannot read
_X32 = 0x40000000

# Offsets in struct seccomp_data. All supported architectures are little-endian.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000


@dataclass(frozen=True)
class _Calls:
    """An architecture of linux/audit.h and its numbers of the system calls clone and unshare."""

    architecture: int
    clone: int
    unshare: int


_KNOWN = (
    _Calls(0xC000003E, clone=56, unshare=272),  # x86-64
    _Calls(0x40000003, clone=120, unshare=310),  # i386
    _Calls(0xC00000B7, clone=220, unshare=97),  # aarch64
    _Calls(0x40000028, clone=120, unshare=337),  # arm
)


def no_user_namespaces() -> bytes:
    """The filter in the format that bubblewrap reads. It kills processes of unknown architectures."""
    program = [_instruction(_LOAD, _ARCHITECTURE)]
    for calls in _KNOWN:
        part = _part(calls)
        program += [_instruction(_EQUAL, calls.architecture, otherwise=len(part)), *part]
    return b"".join([*program, _instruction(_RETURN, _KILL)])


def _part(calls: _Calls) -> list[bytes]:
    """The instructions for one architecture. A jump states how many instructions it skips."""
    return [
        _instruction(_LOAD, _NUMBER),
        _instruction(_AT_LEAST, _X32, then=7),
        _instruction(_EQUAL, _CLONE3, then=6),
        _instruction(_EQUAL, calls.clone, then=1),
        _instruction(_EQUAL, calls.unshare, otherwise=2),
        _instruction(_LOAD, _FIRST_ARGUMENT),
        _instruction(_ANY_BIT, _CLONE_NEWUSER, then=1),
        _instruction(_RETURN, _ALLOW),
        _instruction(_RETURN, _ERROR | errno.EPERM),
        # The C library falls back to clone if clone3 does not exist.
        _instruction(_RETURN, _ERROR | errno.ENOSYS),
    ]


def _instruction(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("<HBBI", code, then, otherwise, value)
