"""Where an image looks for its resolv.conf."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ims.errors import InputError

_MAX_LINKS = 40


def resolv_conf_of(root: Path) -> PurePosixPath:
    """The path in the image that /etc/resolv.conf is or leads to, whether anything is there or not.

    Raises InputError: the links go in a circle.
    """
    pending, found, links = ["resolv.conf", "etc"], PurePosixPath("/"), 0
    while pending:
        part = pending.pop()
        path = root / (found / part).relative_to("/")
        if part == "/":
            found = PurePosixPath("/")
        elif part == "..":
            found = found.parent
        elif path.is_symlink():
            links += 1
            if links > _MAX_LINKS:
                raise InputError("/etc/resolv.conf of the image is a link to itself", "Make it a file")
            pending.extend(reversed(PurePosixPath(path.readlink()).parts))
        else:
            found = found / part
    return found
