"""An image root that can be changed at once: its squashfs, read-only, below an overlay that takes the changes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from pathlib import Path

from ims.errors import ConfigurationError, ImsError, InputError

NOTES = "trusted.overlay."
"""What the overlay's own extended attributes begin with."""
LOWER, UPPER, WORK = "lower", "upper", "work"

# index: hard links stay links when one of their names is changed, and an upper folder that is still mounted elsewhere
# is refused. metacopy: off, so that the upper folder holds whole files.
_OPTIONS = f"lowerdir={LOWER},upperdir={UPPER},workdir={WORK},index=on,metacopy=off"
_SQUASHFS_MAGIC = b"hsqs"
_PATIENCE = 15.0
"""Seconds that the kernel may take to drop the mounts of a process that was just killed."""


def mount_image(rootfs: Path, changes: Path, target: Path, *, moves: bool = False) -> None:
    """Show the squashfs `rootfs` on `target`, writable; what is changed goes to `changes/upper`, under its own name.

    In this process's mount namespace, which is its own. With the changes of an earlier mount they are there again.
    With `moves` the squashfs's folders can be renamed, too: `changes/upper` then only says of them where they were.
    Raises InputError: no squashfs; ConfigurationError: this machine cannot; ImsError: the changes are in use.
    """
    lower, upper = mount_lower(rootfs, changes), changes / UPPER
    if not upper.exists():
        # The overlay shows its own folder's attributes as those of /.
        partial = upper.with_suffix(".partial")
        partial.mkdir(exist_ok=True)
        os.chown(partial, lower.stat().st_uid, lower.stat().st_gid)
        shutil.copystat(lower, partial)
        partial.rename(upper)
    for folder in (changes / WORK, target):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.path.ismount(target):
        # The kernel takes the three folders relative to the working directory: no name of ours has to be quoted.
        options = f"{_OPTIONS},redirect_dir={'on' if moves else 'off'}"
        _mount_or_explain("overlay", "overlay", "-o", options, "overlay", target, folder=changes)


def mount_lower(rootfs: Path, changes: Path) -> Path:
    """Show the squashfs alone, read-only, and return where. Shown already is no error. Raises as `mount_image`."""
    with rootfs.open("rb") as file:
        if file.read(len(_SQUASHFS_MAGIC)) != _SQUASHFS_MAGIC:
            raise InputError(f"{rootfs.name} is not a squashfs", "The image's rootfs has to be one")
    lower = changes / LOWER
    lower.mkdir(parents=True, exist_ok=True)
    if not os.path.ismount(lower):
        _mount_or_explain("squashfs", "loop devices", "-o", "loop,ro", rootfs, lower)
    return lower


def extended_attributes(path: Path) -> dict[str, bytes]:
    """Those of a file itself, the overlay's notes (`trusted.overlay.`) among them."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:  # a squashfs without any
            return {}
        raise
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def _mount_or_explain(kind: str, feature: str, *arguments: str | Path, folder: Path | None = None) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return mount("-t", kind, *arguments, folder=folder)
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        except ImsError as error:
            hint = f"The machine needs {feature}, the {kind} file system, and a file system below that can hold it"
            raise ConfigurationError(error.reason, hint) from None


class BusyError(ImsError):
    """What is to be mounted is mounted by somebody else."""


def mount(*arguments: str | Path, folder: Path | None = None) -> None:
    """mount(8), with `folder` as its working directory. Raises BusyError or ImsError: what mount says."""
    done = subprocess.run(
        ["mount", *arguments],
        cwd=folder,
        env=os.environ | {"LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return
    reason = (done.stderr.splitlines() or [f"mount ended with {done.returncode}"])[0].removeprefix("mount: ")
    kind = BusyError if "already mounted" in reason or "busy" in reason else ImsError
    raise kind(f"cannot mount {reason}", "See the kernel's log (dmesg)")
