"""Package roots: image roots in which a recipe's packages are installed and nothing else is done.

A build keeps its package root as a squashfs for the next build. Each lineage has a folder in the cache with its newest
package root, and with older ones as long as jobs claim them. The file name contains the key, which covers everything
that decides the content, and the digest of the file: a package root is used only for the same key, whatever the
recipe, and only if it is not damaged. Files that no job claims may be removed at any time.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import subprocess
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from ims import cache
from ims.builder.programs import versions
from ims.files import file_digest, move_untrusted
from ims.recipes.archive import digest
from ims.removal import remove
from ims.sandbox.overlay import Layers
from ims.workspace import Workspace

log = logging.getLogger(__name__)

_SUFFIX = ".squashfs"
_NOT_KEPT = "the package root is not kept for the next build: %s"


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
    log.info("using the package root of an earlier build: the packages are the same")
    return True


def layers(workspace: Workspace) -> Layers | None:
    """The image root of a job that uses a cached package root; None if its image root is a plain folder.

    The changes of the job are kept in the workspace.
    """
    path = cache.claimed_by(cache.ROOTS, workspace)
    if path is None:
        return None
    return Layers(path, workspace.image_root_changes, workspace.image_root, redirect=True)


def discard(workspace: Workspace) -> None:
    """Make a workspace use no cached package root, and remove its changes to one."""
    cache.unclaim(cache.ROOTS, workspace)
    with suppress(OSError):  # a mount that failed half-way
        remove(workspace.image_root_changes)


def pack(workspace: Workspace) -> None:
    """Pack a package root for `save`. If that fails, logs the reason and leaves no file."""
    target = workspace.packed_root
    target.unlink(missing_ok=True)
    options = ("-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "1")
    done = subprocess.run(
        ["mksquashfs", workspace.image_root, target, *options], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        output = (done.stderr or done.stdout).strip()[-500:]
        log.warning(_NOT_KEPT, f"mksquashfs ended with exit code {done.returncode}: {output}")
        target.unlink(missing_ok=True)


def save(lineage: str, key: str, workspace: Workspace) -> None:
    """Keep the packed root for later builds, in place of the unclaimed ones of the lineage. Logs failures."""
    folder = cache.folder(cache.ROOTS) / lineage
    partial = folder / f"{key}.{uuid4().hex}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        move_untrusted(workspace.packed_root, partial)
        saved = partial.with_name(f"{key}.{file_digest(partial)}{_SUFFIX}")
        partial.rename(saved)
    except OSError as error:
        log.warning(_NOT_KEPT, error)
        with suppress(OSError):
            partial.unlink()
        return
    with cache.locked():
        for other in set(folder.glob(f"*{_SUFFIX}")) - cache.claimed() - {saved}:
            other.unlink(missing_ok=True)
