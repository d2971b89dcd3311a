"""Unpacking a squashfs of a stranger."""

from __future__ import annotations

import logging
import re
import subprocess
from pathlib import Path

from pydantic import BaseModel

from ims.errors import ImsError

log = logging.getLogger(__name__)

FIRST = 20
"""How many losses a warning names."""
_LOSS = re.compile(r"(create_inode|write_xattr): (failed to .+?),? because Operation not permitted$")
_LINE_LENGTH = 8192
_PROGRESS = "["
_NOT_FATAL = 2
"""The exit code of unsquashfs if it went on after errors. Each has a line."""


class Squashfs(BaseModel):
    """A squashfs and the folder to unpack it to, which does not exist."""

    rootfs: Path
    folder: Path


def unpack(squashfs: Squashfs) -> None:
    """Unpack a squashfs; in the sandbox. Raises ImsError if it is damaged.

    A box may not make devices, nor set attributes with the prefix `trusted.` and some with the prefix `security.`:
    they are lost, and the log names them.
    """
    losses, first, fault = 0, list[str](), ""
    command = ["unsquashfs", "-quiet", "-no-progress", "-ignore-errors"]
    command += ["-dest", str(squashfs.folder), str(squashfs.rootfs)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        while line := process.stdout.readline(_LINE_LENGTH):
            if (loss := _LOSS.match(line.strip())) is None:
                fault = fault if line.isspace() or line.startswith(_PROGRESS) else line.strip()
                continue
            losses += 1
            if losses <= FIRST:
                first.append(loss[2].replace(f"{squashfs.folder}/", "/"))
    if process.returncode not in (0, _NOT_FATAL) or fault:
        raise ImsError(f"{squashfs.rootfs.name} cannot be unpacked: {fault or f'exit code {process.returncode}'}")
    if losses:
        log.warning("unpacking the image in a sandbox lost %d devices or attributes: %s", losses, "; ".join(first))
