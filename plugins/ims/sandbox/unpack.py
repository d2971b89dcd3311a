"""Unpacks a squashfs in a box: `python -m ims.sandbox.unpack ROOTFS FOLDER`.

It is a program of its own because boxes that see an image start it while they are made.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from ims.errors import ImsError, PermanentError
from ims.removal import remove
from ims.sandbox import kernel
from ims.sandbox.call import call
from ims.sandbox.limits import Limits
from ims.sandbox.squashfs import Squashfs, unpack
from ims.sandbox.view import View
from ims.settings import settings


def main(rootfs: Path, folder: Path) -> int:
    """Unpack a squashfs to a folder that does not exist; returns an exit code."""
    kernel.die_with_parent(signal.SIGKILL)
    own, box = settings(), folder.with_suffix(".box")
    limits = Limits.of_machine(own.sandbox_processes, own.sandbox_memory_percent, own.build_env_size)
    remove(box)
    box.mkdir()
    squashfs = Squashfs(rootfs=rootfs, folder=box / "root")
    try:
        call(unpack, squashfs, View((box,), (rootfs,), everyone=True, limits=limits))
        if squashfs.folder.is_symlink() or not squashfs.folder.is_dir():
            raise PermanentError(f"{rootfs.name} cannot be unpacked: its root is no folder")
        squashfs.folder.rename(folder)
    except ImsError as error:
        print(error.reason, file=sys.stderr)
        return error.exit_code
    finally:
        remove(box)
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
