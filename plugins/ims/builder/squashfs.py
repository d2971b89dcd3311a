"""Packs an image root as a squashfs: the rootfs of an image."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ims.errors import ImsError
from ims.images.reproducible import files_with_acls, lost_acls
from ims.images.tree import VOLATILE
from ims.settings import settings

log = logging.getLogger(__name__)

KIWI_FILES = ("image", ".profile", ".kconfig")
"""What kiwi leaves at the top of an image root for its own use."""
EXCLUDED = (*KIWI_FILES, *(f"{folder}/{names}" for folder in sorted(VOLATILE) for names in ("*", ".*")))
# mksquashfs does not name the file.
_LOST_ACL = "Unrecognised xattr prefix system.posix_acl_"
# mksquashfs goes on without the content of the file.
_LOST_FILE = "Failed to read file"
_PERCENT = re.compile(r"\[.*\]\s+\d+/\d+\s+(?P<percent>\d+)%")
_PROGRESS_SECONDS = 2


def make_rootfs(
    root: Path, rootfs: Path, compression: Sequence[str] | None = None, exclude: Path | None = None
) -> None:
    """Pack an image root. The same tree gives the same bytes, whatever the number of processors.

    `compression` are arguments of mksquashfs that replace those from the settings. `exclude` is a file with patterns
    of further paths to leave out.
    Raises ImsError if mksquashfs fails.
    """
    process = subprocess.Popen(
        squashfs_command(root, rootfs, compression, exclude), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    last, lost, logged, has_acls = "", "", 0.0, False
    for line in _lines(process.stdout.fileno()):
        last = line or last
        percent = _PERCENT.search(line)
        if _LOST_ACL in line:
            has_acls = True
        elif _LOST_FILE in line:
            lost = line
        elif percent is None:
            log.info("mksquashfs: %s", line)
        elif time.monotonic() - logged > _PROGRESS_SECONDS:
            logged = time.monotonic()
            log.info("packing the rootfs: %s %%", percent["percent"])
    if process.wait() != 0:
        raise ImsError(f"mksquashfs ended with exit code {process.returncode}: {last}", "See the log above")
    if lost:
        raise ImsError(f"mksquashfs could not read all files: {lost}", "See the log above")
    if has_acls:
        log.warning(lost_acls(root, list(files_with_acls(root))))


def squashfs_command(
    root: Path, rootfs: Path, compression: Sequence[str] | None = None, exclude: Path | None = None
) -> list[str]:
    """The command line of mksquashfs, from the settings."""
    own = settings()
    processors = own.squashfs_processors or len(os.sched_getaffinity(0))
    return [
        *("mksquashfs", str(root), str(rootfs), "-noappend"),
        *(compression or ("-comp", "zstd", "-Xcompression-level", str(own.squashfs_level))),
        *("-mkfs-time", "0"),
        *("-processors", str(processors), "-mem", f"{own.squashfs_memory_mib}M"),
        "-wildcards",
        *(("-ef", str(exclude)) if exclude is not None else ()),
        *("-e", *EXCLUDED),
    ]


def _lines(descriptor: int) -> Iterator[str]:
    """The lines of a program that draws its progress with carriage returns."""
    rest = b""
    while data := os.read(descriptor, 65536):
        *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
        yield from (text for line in lines if (text := line.decode(errors="replace").strip()))
    if rest.strip():
        yield rest.decode(errors="replace").strip()
