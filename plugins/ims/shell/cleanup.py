"""Removes what a shell leaves in an image without its user's intent."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ims.images.attributes import OVERLAY_PREFIX, extended_attributes
from ims.removal import remove
from ims.shell.jail import find_resolv_conf
from ims.shell.mounts import MOUNT_POINTS

# Files that shells, editors and Ansible write, and the markers.
_FILES = (
    *("tmp/complete", "tmp/failed"),
    *(f"root/{name}" for name in (".ash_history", ".bash_history", ".history", ".sh_history", ".zsh_history")),
    *(f"root/{name}" for name in (".lesshst", ".python_history", ".viminfo", ".wget-hsts")),
    *("var/log/btmp", "var/log/lastlog", "var/log/wtmp"),
)
_FOLDERS = ("root/.ansible", "root/.ansible_async")


def remove_traces(upper: Path, lower: Path) -> list[str]:
    """Remove the traces of a shell from the upper folder of an overlay that is not mounted.

    Where a trace hid a file of `lower`, that file is visible again. All else stays as it is, including what the user
    removed. Returns the paths that were removed.
    """
    written = [name for name in (*_FILES, *_FOLDERS) if _remove(upper, name)]
    mount_points = [*MOUNT_POINTS, "tmp", str(find_resolv_conf(lower)).lstrip("/")]
    created = [name for name in mount_points if not os.path.lexists(lower / name) and _remove_empty(upper, name)]
    for folder in _ancestors(created):
        if not os.path.lexists(lower / folder):
            _remove_empty(upper, folder)
    for folder in _ancestors([*written, *created]):
        _remove_unchanged_folder(upper / folder, lower / folder)
    return [*written, *created]


def _ancestors(names: list[str]) -> list[str]:
    """All folders that contain these paths, the deepest first."""
    return sorted({parent for name in names for parent in _parents(name)}, key=len, reverse=True)


def _parents(name: str) -> list[str]:
    return [str(parent) for parent in Path(name).parents][:-1]


def _is_below_folders(upper: Path, name: str) -> bool:
    """Whether all parents of the path are folders. A link could lead out of the image."""
    return all(not (upper / parent).is_symlink() and (upper / parent).is_dir() for parent in _parents(name))


def _remove(upper: Path, name: str) -> bool:
    path = upper / name
    if not _is_below_folders(upper, name) or not os.path.lexists(path) or stat.S_ISCHR(path.lstat().st_mode):
        return False
    remove(path)
    return True


def _remove_empty(upper: Path, name: str) -> bool:
    path = upper / name
    if not _is_below_folders(upper, name) or path.is_symlink() or not path.exists():
        return False
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
        return True
    if path.is_file() and path.stat().st_size == 0:
        path.unlink()
        return True
    return False


def _remove_unchanged_folder(upper: Path, lower: Path) -> None:
    """Remove an empty copy of a folder, which changes nothing but the folder's modification time."""
    empty = upper.is_dir() and not any(upper.iterdir())
    if empty and lower.is_dir() and not lower.is_symlink() and _has_same_attributes(upper, lower):
        upper.rmdir()


def _has_same_attributes(upper: Path, lower: Path) -> bool:
    now, before = upper.stat(), lower.stat()
    same = (now.st_mode, now.st_uid, now.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    return same and _attributes(upper) == _attributes(lower)


def _attributes(folder: Path) -> dict[str, bytes]:
    """The extended attributes, except those in which the overlay notes where a folder came from."""
    internal = (f"{OVERLAY_PREFIX}impure", f"{OVERLAY_PREFIX}origin")
    return {name: value for name, value in extended_attributes(folder).items() if name not in internal}
