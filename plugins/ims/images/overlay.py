"""Mounts an image root so that it can be changed: an overlay over the read-only squashfs takes the changes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from pathlib import Path

from ims.errors import ConfigurationError, ImsError, InputError

OVERLAY_PREFIX = "trusted.overlay."
"""The prefix of the extended attributes that the overlay itself uses."""
LOWER, UPPER, WORK = "lower", "upper", "work"

# index=on: hard links stay linked when a file is changed, and the mount fails if the upper folder is still mounted
# elsewhere. metacopy=off: the upper folder contains complete files.
_OPTIONS = f"lowerdir={LOWER},upperdir={UPPER},workdir={WORK},index=on,metacopy=off"
_SQUASHFS_MAGIC = b"hsqs"
_UNMOUNT_SECONDS = 15.0
"""How many seconds the kernel may take to remove the mounts of a process that was just killed."""


def mount_image(rootfs: Path, changes: Path, target: Path, *, redirect: bool = False) -> None:
    """Mount the squashfs `rootfs` writable at `target`. Changed files are stored in `changes/upper` under their paths.

    The process must have a mount namespace of its own. If `changes` has changes of an earlier mount, they are visible
    again. With `redirect`, the folders of the squashfs can be renamed; `changes/upper` then only refers to their
    content.

    Raises InputError if `rootfs` is not a squashfs, ConfigurationError if this machine cannot mount it, and ImsError
    if the changes are in use.
    """
    lower, upper = mount_lower(rootfs, changes), changes / UPPER
    if not upper.exists():
        # The attributes of the upper folder become those of /.
        partial = upper.with_suffix(".partial")
        partial.mkdir(exist_ok=True)
        os.chown(partial, lower.stat().st_uid, lower.stat().st_gid)
        shutil.copystat(lower, partial)
        partial.rename(upper)
    for folder in (changes / WORK, target):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.path.ismount(target):
        # The three folders are relative to the working directory, so no path has to be quoted.
        options = f"{_OPTIONS},redirect_dir={'on' if redirect else 'off'}"
        _mount_or_explain("overlay", "overlay", "-o", options, "overlay", target, folder=changes)


def mount_lower(rootfs: Path, changes: Path) -> Path:
    """Mount only the squashfs, read-only, unless it is mounted; returns the mount point.

    Raises the errors of `mount_image`.
    """
    with rootfs.open("rb") as file:
        if file.read(len(_SQUASHFS_MAGIC)) != _SQUASHFS_MAGIC:
            raise InputError(f"{rootfs.name} is not a squashfs", "Use an image whose rootfs is a squashfs")
    lower = changes / LOWER
    lower.mkdir(parents=True, exist_ok=True)
    if not os.path.ismount(lower):
        _mount_or_explain("squashfs", "loop devices", "-o", "loop,ro", rootfs, lower)
    return lower


def extended_attributes(path: Path) -> dict[str, bytes]:
    """The extended attributes of a file, including those of the overlay. Links are not followed."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:  # the squashfs has none
            return {}
        raise
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def _mount_or_explain(kind: str, feature: str, *arguments: str | Path, folder: Path | None = None) -> None:
    deadline = time.monotonic() + _UNMOUNT_SECONDS
    while True:
        try:
            return mount("-t", kind, *arguments, folder=folder)
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        except ImsError as error:
            hint = (
                f"Use a machine with {feature} and the {kind} file system, and a disk whose file system supports them"
            )
            raise ConfigurationError(error.reason, hint) from None


class BusyError(ImsError):
    """Another process has mounted the same folder."""


def mount(*arguments: str | Path, folder: Path | None = None) -> None:
    """Run mount(8) with the working directory `folder`. Raises BusyError or ImsError with the message of mount."""
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
    reason = (done.stderr.splitlines() or [f"mount ended with exit code {done.returncode}"])[0].removeprefix("mount: ")
    kind = BusyError if "already mounted" in reason or "busy" in reason else ImsError
    raise kind(f"cannot mount {reason}", "See the kernel's log (dmesg)")
