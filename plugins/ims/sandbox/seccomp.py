"""The seccomp filter of everything hostile: a BPF program that decides about system calls, see seccomp(2).

It refuses new user namespaces, in which a process has all capabilities, and what no build needs and where the kernel
had faults: keys, BPF, io_uring, performance counters, modules, handles of files, and sockets other than those of files,
the Internet and netlink. It also refuses pivot_root: a mount namespace without the mounts of the box could rename the
folders on which they are, which a step then finds under other names. All machines are little-endian.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from dataclasses import dataclass

_CLONE_NEWUSER = 0x10000000
_CLONE3 = 435  # on all architectures; its flags are in memory, which a filter cannot read
_X32 = 0x40000000

# Offsets in struct seccomp_data.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000

_SOCKET_FAMILIES = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK."""

# The numbers of system calls on x86-64 and aarch64.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "memfd_secret": (447, 447),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, None),
    "mount_setattr": (442, 442),
    "move_pages": (279, 239),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "set_mempolicy": (238, 237),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}


@dataclass(frozen=True)
class _Calls:
    """An architecture of linux/audit.h, its numbers of three system calls, and its column in `_REFUSED`."""

    architecture: int
    clone: int
    unshare: int
    socket: int
    column: int


_X86_64 = _Calls(0xC000003E, clone=56, unshare=272, socket=41, column=0)
_AARCH64 = _Calls(0xC00000B7, clone=220, unshare=97, socket=198, column=1)


def sandbox() -> bytes:
    """The filter, in the format of the kernel. For programs of other architectures, also of 32 bits, no call exists."""
    return _program([(calls, _box(calls)) for calls in (_X86_64, _AARCH64)], _ERROR | errno.ENOSYS)


def _program(parts: Sequence[tuple[_Calls, list[bytes]]], otherwise: int) -> bytes:
    program = [_instruction(_LOAD, _ARCHITECTURE)]
    for calls, part in parts:
        program += [_instruction(_EQUAL, calls.architecture, otherwise=len(part)), *part]
    return b"".join([*program, _instruction(_RETURN, otherwise)])


def _box(calls: _Calls) -> list[bytes]:
    """The instructions for one architecture."""
    numbers = sorted(number for name in _REFUSED if (number := _REFUSED[name][calls.column]) is not None)
    families = [part for family in _SOCKET_FAMILIES for part in _if_equal(family, _ALLOW)]
    return [
        _instruction(_LOAD, _NUMBER),
        *(part for number in numbers for part in _if_equal(number, _ERROR | errno.EPERM)),
        _instruction(_EQUAL, calls.socket, otherwise=2 + len(families)),
        _instruction(_LOAD, _FIRST_ARGUMENT),
        *families,
        _instruction(_RETURN, _ERROR | errno.EAFNOSUPPORT),
        *_no_user_namespaces(calls),
    ]


def _no_user_namespaces(calls: _Calls) -> list[bytes]:
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


def _if_equal(value: int, outcome: int) -> list[bytes]:
    return [_instruction(_EQUAL, value, otherwise=1), _instruction(_RETURN, outcome)]


def _instruction(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("<HBBI", code, then, otherwise, value)
