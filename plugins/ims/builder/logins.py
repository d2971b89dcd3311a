"""Removes the logins of repositories that package managers store during a build."""

from __future__ import annotations

from pathlib import Path

from ims.images.root import resolve_inside
from ims.removal import remove

# kiwi writes these below its shared cache for every build. The cache outlives the job.
_IN_CACHE = ("apt-get/auth.conf.d", "apt-get/sources.list.d", "dnf/repos", "zypper/credentials", "zypper/repos")


def remove_from_cache(package_cache: Path) -> None:
    """Remove the descriptions of repositories from the cache of downloaded packages."""
    for name in _IN_CACHE:
        remove(package_cache / name)


def remove_from_root(root: Path, home: Path) -> None:
    """Remove what zypper stored in an image root in place of its home folder, and the folders that it made for that."""
    found = resolve_inside(root, str(home))
    if found is None or found == root:
        return
    remove(found)
    for folder in found.parents:
        if root in (folder, folder.parent) or any(folder.iterdir()):
            return
        folder.rmdir()
