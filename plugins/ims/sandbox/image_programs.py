"""Runs the programs of an image. Whoever made the image chose them, so they count as hostile."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ims.programs import run_logged
from ims.sandbox import bubblewrap, seccomp

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def run_isolated(root: Path, program: str, seconds: float) -> tuple[int, deque[str]]:
    """Run a program of the image root `root` in a sandbox without network; returns its exit code and its last lines.

    The program may write to the image root. After `seconds` it is killed with all processes that it started, and the
    exit code is negative. Raises ConfigurationError if bubblewrap is missing.
    """
    bubblewrap.check_installed()
    with _seccomp_filter() as descriptor:
        command = [
            *(bubblewrap.BWRAP, "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-net"),
            *bubblewrap.isolation("image"),
            *("--seccomp", str(descriptor), "--bind", str(root), "/"),
            # In the image, bubblewrap would create a folder that is missing and follow a link.
            *(bubblewrap.private_proc() if _is_folder(root / "proc") else ()),
            *(bubblewrap.private_dev() if _is_folder(root / "dev") else ()),
            *("--", program),
        ]
        return run_logged(command, {"PATH": PATH, "LANG": "C.UTF-8"}, seconds=seconds, descriptors=[descriptor])


def chroot_command(root: Path, program: Iterable[str]) -> list[str]:
    """The command line that runs a program of the image root with all rights of the step."""
    return ["chroot", str(root), *program]


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


@contextmanager
def _seccomp_filter() -> Iterator[int]:
    """The descriptor of a file in memory from which bubblewrap reads the filter."""
    descriptor = os.memfd_create("seccomp")
    try:
        os.write(descriptor, seccomp.no_user_namespaces())
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
