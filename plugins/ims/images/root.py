"""Looking things up in an image root, whose symbolic links mean paths inside it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

_MAX_LINKS = 40


def resolve_inside(root: Path, name: str) -> Path | None:
    """The file that `name` means inside `root`, as a process with that root would see it; None if there is none.

    A link to an absolute path or up beyond the root stays inside, as in chroot(2).
    """
    try:
        return _resolve(root, name)
    except OSError:  # a name that no file can have
        return None


def _resolve(root: Path, name: str) -> Path | None:
    pending, found, links = list(reversed(PurePosixPath(name).parts)), root, 0
    while pending:
        part = pending.pop()
        if part == "/":
            found = root
        elif not found.is_dir():
            return None
        elif part == "..":
            found = found if found == root else found.parent
        elif (found / part).is_symlink():
            links += 1
            if links > _MAX_LINKS:
                return None
            pending.extend(reversed(PurePosixPath((found / part).readlink()).parts))
        else:
            found = found / part
    return found if found.exists() else None
