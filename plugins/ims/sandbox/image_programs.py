"""Runs the programs of an image, in a box. Whoever made the image chose them, so they count as hostile."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ims.programs import run_logged
from ims.sandbox.overlay import mount, unmount


def run_in_image(
    root: Path, program: Sequence[str], environment: Mapping[str, str], seconds: float | None = None
) -> tuple[int, deque[str]]:
    """Run a program of the image root `root`, which sees /dev, /proc and /sys; returns its exit code and last lines.

    After `seconds` it is killed, and the exit code is negative. Processes that it started end with the box. Must be
    called in a box: chroot alone does not confine a program.
    """
    with _kernel_file_systems(root):
        return run_logged(["chroot", str(root), *program], environment, seconds=seconds, kill=_kill_all)


def _kill_all() -> None:
    """End all processes of the box except this one, which is the first."""
    assert os.getpid() == 1, "outside of a box, this would end all processes of the machine"
    os.kill(-1, signal.SIGKILL)


@contextmanager
def _kernel_file_systems(root: Path) -> Iterator[None]:
    """Mount /dev, /proc and /sys in an image root. Without them, `>/dev/null` in a script would create a plain file."""
    names = [name for name in ("dev", "proc", "sys") if (root / name).is_dir() and not (root / name).is_symlink()]
    for name in names:
        mount("--rbind", f"/{name}", root / name)
    try:
        yield
    finally:
        for name in names:
            unmount(root / name)
