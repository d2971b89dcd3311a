"""Package roots: image roots in which a recipe's packages are installed and nothing else is done.

A build keeps its package root as a squashfs for the next build. Each lineage has a folder in the cache with its newest
package root, and with older ones as long as jobs claim them. The file name contains the key, which covers everything
that decides the content, and the digest of the file: a package root is used only for the same key, whatever the
recipe, and only if it is not damaged. Files that no job claims may be removed at any time.

Files that belong to a package root have names that begin like its name, and contain their own digests: the list of its
files, and the base of the newest rootfs, see `ims.builder.root_base`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from ims import cache
from ims.builder.programs import versions
from ims.builder.squashfs import KIWI_FILES
from ims.files import file_digest, move_untrusted
from ims.images.files import LIST, write_files
from ims.recipes.archive import digest
from ims.removal import remove
from ims.sandbox.overlay import Layers
from ims.settings import settings
from ims.workspace import Workspace

log = logging.getLogger(__name__)

_SUFFIX = ".squashfs"
FILES = ".files"
"""The suffix of the list of the files of a package root."""
_NICENESS = 10
"""A package root is packed while programs of the recipe run. These have priority."""
NOT_KEPT = "the package root is not kept for the next build: %s"


def compute_key(description: Path, package_manager: str, packages_digest: str, ca_package: Path) -> str:
    """The key of everything that decides the content of a package root."""
    parts = [platform.machine(), *map(str, sorted(versions(package_manager).items()))]
    parts += [digest(description), file_digest(ca_package), packages_digest]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def restore(key: str, workspace: Workspace) -> bool:
    """Claim the cached package root with this key for a job, see `layers`.

    Returns False if there is no such package root or it is damaged.
    """
    discard(workspace)
    path = next(cache.folder(cache.ROOTS).glob(f"*/{key}.*{_SUFFIX}"), None)
    if path is None:
        return False
    try:
        if not cache.claim(path, cache.ROOTS, workspace):
            raise OSError("it was removed in the meantime")
        if file_digest(path) != path.name.split(".")[1]:
            path.unlink(missing_ok=True)
            raise OSError("it is damaged: its digest is not that of its file name")
    except OSError as error:
        log.warning("the cached package root cannot be used, packages are installed again: %s", error)
        discard(workspace)
        return False
    if (files := kept(path, FILES)) is not None:
        shutil.copyfile(files, workspace.old_files)
    log.info("using the package root of an earlier build: the packages are the same")
    return True


def kept(path: Path, suffix: str) -> Path | None:
    """The undamaged file of a kind that belongs to the cached package root `path`, or None."""
    found = next(path.parent.glob(f"{path.stem}.*{suffix}"), None)
    if found is None or file_digest(found) == found.name.removesuffix(suffix).split(".")[-1]:
        return found
    log.warning("%s is damaged: its digest is not that of its file name", found.name)
    found.unlink(missing_ok=True)
    return None


def layers(workspace: Workspace) -> Layers | None:
    """The image root of a job that changes a package root; None if its image root is a plain folder.

    The changes of the job are kept in the workspace.
    """
    folder = workspace.package_root
    path = folder if folder.is_dir() else cache.claimed_by(cache.ROOTS, workspace)
    if path is None:
        return None
    return Layers(path, workspace.image_root_changes, workspace.image_root, redirect=True)


def discard(workspace: Workspace) -> None:
    """Make a workspace use no cached package root, and remove its changes to one."""
    cache.unclaim(cache.ROOTS, workspace)
    workspace.old_files.unlink(missing_ok=True)
    with suppress(OSError):  # a mount that failed half-way
        remove(workspace.image_root_changes)


def pack(root: Path, workspace: Workspace) -> None:
    """Pack the package root `root` for `save`. If that fails, logs the reason and leaves no file.

    Also lists its files if the lists of builds are derived from that.
    """
    workspace.kept_root.mkdir(exist_ok=True)
    target = workspace.packed_root
    target.unlink(missing_ok=True)
    options = ("-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "1")
    with subprocess.Popen(
        ["nice", f"-n{_NICENESS}", "mksquashfs", root, target, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as packing:
        if settings().squashfs_splice_builds:
            os.nice(_NICENESS)
            write_files(root, workspace.kept_root / LIST, KIWI_FILES)
        output = packing.communicate()[0]
    if packing.returncode != 0:
        log.warning(NOT_KEPT, f"mksquashfs ended with exit code {packing.returncode}: {output.strip()[-500:]}")
        target.unlink(missing_ok=True)


def save(lineage: str, key: str, workspace: Workspace) -> None:
    """Keep the packed root for later builds, in place of the unclaimed ones of the lineage, and claim it.

    Logs failures.
    """
    folder = cache.folder(cache.ROOTS) / lineage
    try:
        folder.mkdir(parents=True, exist_ok=True)
        saved = _move(workspace.packed_root, folder, key, _SUFFIX)
        cache.claim(saved, cache.ROOTS, workspace)
        if (files := workspace.kept_root / LIST).exists():
            shutil.copyfile(keep(files, saved, FILES, workspace), workspace.old_files)
    except OSError as error:
        log.warning(NOT_KEPT, error)
        return
    with cache.locked():
        stems = {path.stem for path in cache.claimed()} | {saved.stem}
        for other in _finished(folder):
            if not other.name.startswith(tuple(f"{stem}." for stem in stems)):
                other.unlink(missing_ok=True)


def keep(source: Path, path: Path, suffix: str, workspace: Workspace) -> Path:
    """Keep a file that belongs to the package root `path`, which the workspace claims.

    It replaces others of its kind unless another job may use them. Raises OSError, also if it is not a plain file.
    """
    saved = _move(source, path.parent, path.stem, suffix)
    with cache.locked():
        if not cache.is_claimed_by_others(path, workspace):
            for other in path.parent.glob(f"{path.stem}.*.{suffix.rpartition('.')[2]}"):
                if other != saved:
                    other.unlink(missing_ok=True)
    return saved


def _move(source: Path, folder: Path, name: str, suffix: str) -> Path:
    """Move a file that a sandbox made to a folder; its new name is `name` with its digest."""
    partial = folder / f"{name}.{uuid4().hex}.partial"
    try:
        move_untrusted(source, partial)
        return partial.rename(folder / f"{name}.{file_digest(partial)}{suffix}")
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise


def _finished(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.suffix != ".partial")
