"""What a shell leaves in an image without its user having meant to, removed before packing."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from ims.images.overlay import NOTES, extended_attributes
from ims.shell.jail import MOUNT_POINTS
from ims.shell.resolving import resolv_conf_of

# What shells, editors, Ansible and the markers write.
_FILES = (
    *("tmp/complete", "tmp/failed"),
    *(f"root/{name}" for name in (".ash_history", ".bash_history", ".history", ".sh_history", ".zsh_history")),
    *(f"root/{name}" for name in (".lesshst", ".python_history", ".viminfo", ".wget-hsts")),
    *("var/log/btmp", "var/log/lastlog", "var/log/wtmp"),
)
_FOLDERS = ("root/.ansible", "root/.ansible_async")


def clean(upper: Path, lower: Path) -> list[str]:
    """Remove the traces from an overlay's upper folder that is not mounted, so that what is in `lower` shows again.

    Returns what was removed. Nothing else is touched: what the user removed stays so.
    """
    written = [name for name in (*_FILES, *_FOLDERS) if _remove(upper, name)]
    points = [*MOUNT_POINTS, "tmp", str(resolv_conf_of(lower)).lstrip("/")]
    made = [name for name in points if not os.path.lexists(lower / name) and _remove_empty(upper, name)]
    for folder in _folders_of(made):
        if not os.path.lexists(lower / folder):
            _remove_empty(upper, folder)
    for folder in _folders_of([*written, *made]):
        _show_again(upper / folder, lower / folder)
    return [*written, *made]


def _folders_of(names: list[str]) -> list[str]:
    """The folders that these are in, the deepest first."""
    return sorted({parent for name in names for parent in _parents(name)}, key=len, reverse=True)


def _parents(name: str) -> list[str]:
    return [str(parent) for parent in Path(name).parents][:-1]


def _reaches(upper: Path, name: str) -> bool:
    """Whether the path leads there through folders, not links that lead elsewhere."""
    return all(not (upper / parent).is_symlink() and (upper / parent).is_dir() for parent in _parents(name))


def _remove(upper: Path, name: str) -> bool:
    path = upper / name
    if not _reaches(upper, name) or not os.path.lexists(path) or stat.S_ISCHR(path.lstat().st_mode):
        return False
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    return True


def _remove_empty(upper: Path, name: str) -> bool:
    path = upper / name
    if not _reaches(upper, name) or path.is_symlink() or not path.exists():
        return False
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
        return True
    if path.is_file() and path.stat().st_size == 0:
        path.unlink()
        return True
    return False


def _show_again(upper: Path, lower: Path) -> None:
    """Remove an empty copy of a folder: it hides nothing but the time that the folder had."""
    empty = upper.is_dir() and not any(upper.iterdir())
    if empty and lower.is_dir() and not lower.is_symlink() and _same_folder(upper, lower):
        upper.rmdir()


def _same_folder(upper: Path, lower: Path) -> bool:
    now, before = upper.stat(), lower.stat()
    same = (now.st_mode, now.st_uid, now.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    return same and _xattrs(upper) == _xattrs(lower)


def _xattrs(folder: Path) -> dict[str, bytes]:
    """Those that mean something: all but the overlay's notes on where a folder came from."""
    notes = (f"{NOTES}impure", f"{NOTES}origin")
    return {name: value for name, value in extended_attributes(folder).items() if name not in notes}
