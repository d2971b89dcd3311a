"""Trees of files: comparing them, and unmounting everything below them."""

from __future__ import annotations

import hashlib
import stat
import subprocess
from pathlib import Path
from typing import Any

from ims.images.attributes import extended_attributes


def snapshot(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything that a file system stores about each path below a root."""
    found: dict[str, tuple[Any, ...]] = {}
    first_names: dict[tuple[int, int], str] = {}
    for path in sorted((root, *root.rglob("*"))):
        status = path.lstat()
        name = str(path.relative_to(root))
        regular = stat.S_ISREG(status.st_mode)
        content = path.read_bytes() if regular else None
        found[name] = (
            oct(status.st_mode),
            (status.st_uid, status.st_gid),
            status.st_rdev,
            status.st_mtime_ns // 10**9,
            content and hashlib.sha256(content).hexdigest(),
            str(path.readlink()) if path.is_symlink() else None,
            extended_attributes(path),
            first_names.setdefault((status.st_dev, status.st_ino), name),
            status.st_nlink if regular else None,
        )
    return found


def unmount(folder: Path) -> None:
    """Unmount everything below a folder in reverse order."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    for place in (line.split()[1].encode().decode("unicode_escape") for line in reversed(mounts)):
        if Path(place).is_relative_to(folder):
            subprocess.run(["umount", place], check=True)
