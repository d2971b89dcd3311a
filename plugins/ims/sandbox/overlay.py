"""Mounts an image root so that it can be changed: an overlay over a read-only squashfs or folder takes the changes."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ims.errors import ConfigurationError, ImsError, InputError
from ims.removal import remove
from ims.sandbox import kernel, users
from ims.sandbox.limits import Limits

log = logging.getLogger(__name__)

LOWER, UPPER, WORK = "lower", "upper", "work"

# index=on: hard links stay linked when a file is changed, and the mount fails if the upper folder is still mounted
# elsewhere. metacopy=off: the upper folder contains complete files.
_OPTIONS = f"lowerdir={LOWER},upperdir={UPPER},workdir={WORK},index=on,metacopy=off"
_SQUASHFS_MAGIC = b"hsqs"
_UNMOUNT_SECONDS = 15.0
"""How many seconds the kernel may take to remove the mounts of a process that was just killed."""


@dataclass(frozen=True)
class Layers:
    """An image that is mounted writable at `target`; see `mount_image` for the fields."""

    rootfs: Path
    changes: Path
    target: Path
    redirect: bool = False
    unpack: bool = field(default_factory=lambda: unpacks())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Layers:
        """The layers with these fields, whose paths are texts."""
        return cls(Path(data["rootfs"]), Path(data["changes"]), Path(data["target"]), data["redirect"], data["unpack"])

    def open(self, owner: int, user_namespace: int) -> list[tuple[Path, int]]:
        """Mount the layers for the box whose first user is `owner`.

        Returns the mounts that the box sees: descriptors of detached mounts, with their paths. On the disk, changed
        files have their true owners. Raises the errors of `mount_image`, and OSError.
        """
        lower = _prepare(self.rootfs, self.changes, self.target, unpack=self.unpack)
        mapped = kernel.clone_mount(lower, kernel.READ_ONLY | kernel.NO_DEVICES, user_namespace)
        changes = kernel.clone_mount(self.changes, kernel.NO_DEVICES, user_namespace)
        kernel.attach_mount(changes, self.changes)
        kernel.attach_mount(mapped, lower)
        _mount_as(owner, self.changes, self.target, _options(redirect=self.redirect))
        return [
            (lower, kernel.clone_mount(lower, kernel.READ_ONLY | kernel.NO_DEVICES)),
            (self.target, kernel.clone_mount(self.target, kernel.NO_DEVICES)),
        ]


def _mount_as(owner: int, changes: Path, target: Path, options: str) -> None:
    """Mount the overlay as a user of the box. The host's root is no user of the box, so it can own no file there.

    Raises BusyError or OSError.
    """
    with chdir(changes):  # the options name folders in it
        users.call_as(
            owner,
            lambda: _retry_while_busy(lambda: kernel.mount("overlay", target, "overlay", kernel.NO_DEVICES, options)),
        )


def _retry_while_busy(mount_once: Callable[[], None]) -> None:
    deadline = time.monotonic() + _UNMOUNT_SECONDS
    while True:
        try:
            return mount_once()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def mount_image(rootfs: Path, changes: Path, target: Path, *, redirect: bool = False) -> None:
    """Mount `rootfs`, a squashfs or a folder, writable at `target`.

    Changed files are stored in `changes/upper` under their paths.

    The process must have a mount namespace of its own. If `changes` has changes of an earlier mount, they are visible
    again. With `redirect`, the folders of the squashfs can be renamed; `changes/upper` then only refers to their
    content.

    Raises InputError if `rootfs` is not a squashfs, ConfigurationError if this machine cannot mount it, and ImsError
    if the changes are in use.
    """
    _prepare(rootfs, changes, target, unpack=unpacks())
    if not os.path.ismount(target):
        # The three folders are relative to the working directory, so no path has to be quoted.
        _mount_or_explain("overlay", "overlay", "-o", _options(redirect=redirect), "overlay", target, folder=changes)


def _prepare(rootfs: Path, changes: Path, target: Path, *, unpack: bool) -> Path:
    """Mount the squashfs and make the folders of the overlay; returns the mount point of the squashfs."""
    lower, upper = mount_lower(rootfs, changes, unpack=unpack), changes / UPPER
    _refuse_links(upper, changes / WORK, target)
    if not upper.exists():
        # The attributes of the upper folder become those of /.
        partial = upper.with_suffix(".partial")
        _refuse_links(partial)
        partial.mkdir(exist_ok=True)
        os.chown(partial, lower.stat().st_uid, lower.stat().st_gid)
        shutil.copystat(lower, partial)
        partial.rename(upper)
    for folder in (changes / WORK, target):
        folder.mkdir(parents=True, exist_ok=True)
    return lower


def _refuse_links(*paths: Path) -> None:
    """Raises InputError if one of the paths is a link. Programs of a job could write to the folder that contains it."""
    if linked := next((path for path in paths if path.is_symlink()), None):
        raise InputError(f"{linked} is a link", "A script of the recipe or the image made it")


def _options(*, redirect: bool) -> str:
    return f"{_OPTIONS},redirect_dir={'on' if redirect else 'off'}"


def unpacks() -> bool:
    """Whether images are unpacked in a box instead of mounted, so that the kernel reads no squashfs of a stranger."""
    from ims.settings import settings  # slow to import; the program that makes a box finds the answer in its view

    return settings().squashfs == "unpack"


def mount_lower(rootfs: Path, changes: Path, *, unpack: bool) -> Path:
    """Mount only the squashfs or the folder, unless it is mounted; returns the mount point.

    With `unpack` it is unpacked in a box instead. Where the kernel cannot map the owners of files in a squashfs for a
    box, before Linux 6.2, it is copied. Both happen once for all steps of a job: the changes refer to the files that
    the first step saw. Raises the errors of `mount_image`.
    """
    if not rootfs.is_dir():
        _check_magic(rootfs)
    lower = changes / LOWER
    _refuse_links(changes, lower)
    lower.mkdir(parents=True, exist_ok=True)
    if os.path.ismount(lower) or any(lower.iterdir()):
        return lower
    if rootfs.is_dir():
        _refuse_links(rootfs)
        # mksquashfs does not recognize another name of a link whose time of access has changed.
        mount("-o", "bind,noatime", rootfs, lower)
        return lower
    if unpack:
        log.info("unpacking %s in a sandbox (IMS_SQUASHFS)", rootfs.name)
        _replace(lower, [sys.executable, "-P", "-m", "ims.sandbox.unpack", str(rootfs)])
        return lower
    _mount_or_explain("squashfs", "loop devices", "-o", "loop,ro", rootfs, lower)
    if not can_map_owners(lower):
        log.warning("this kernel cannot map the owners of files in %s: it is copied, which takes longer", rootfs.name)
        _replace(lower, ["cp", "--archive", "--sparse=always", "--no-target-directory", str(lower)])
    return lower


def _check_magic(rootfs: Path) -> None:
    with rootfs.open("rb") as file:
        if file.read(len(_SQUASHFS_MAGIC)) != _SQUASHFS_MAGIC:
            raise InputError(f"{rootfs.name} is not a squashfs", "Use an image whose rootfs is a squashfs")


def can_map_owners(mount_point: Path) -> bool:
    """Whether the kernel can map the owners of files in a mount, as a box needs it. Raises OSError."""
    with users.reserved_range() as owner:
        namespace = users.user_namespace(owner, Limits())
    try:
        os.close(kernel.clone_mount(mount_point, kernel.READ_ONLY, namespace))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    finally:
        os.close(namespace)
    return True


def _replace(lower: Path, command: list[str]) -> None:
    """Put the folder that a program makes, whose last argument is its path, in the place of `lower`.

    Raises ImsError if the program fails.
    """
    partial = lower.with_suffix(".partial")
    _refuse_links(partial)
    remove(partial)
    # Standard output may be the connection of a shell.
    done = subprocess.run(
        [*command, str(partial)],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        remove(partial)
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ImsError(reason[-500:], "See the log")
    if os.path.ismount(lower):
        unmount(lower)
    lower.rmdir()
    partial.rename(lower)


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


def unmount(path: Path) -> None:
    """Detach a mount and those in it, also while they are in use."""
    subprocess.run(["umount", "--recursive", "--lazy", path], check=True)


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
