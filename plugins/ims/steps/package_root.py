"""The root with a recipe's packages, kept from one build for the next.

Each lineage of recipes has a folder below `cache/roots`, with one root, a squashfs, and those before it that jobs still
claim. Its name says what it was made of and what its bytes are: it is used for nothing else, whatever the recipe, and
not when it is damaged. Any that no job claims may be removed at any time.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import platform
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from ims.errors import ImsError
from ims.images.overlay import mount_image
from ims.recipes.archive import digest
from ims.recipes.description import APT
from ims.recipes.provenance import file_digest
from ims.steps import cache
from ims.workspace import Workspace

log = logging.getLogger(__name__)

PROCEDURE = 1
"""To be raised when a build installs packages in another way: roots that are kept from before are then of no use."""
_PROGRAMS = {APT: ("apt-get", "dpkg")}
_ENDING = ".squashfs"


def key(description: Path, package_manager: str, packages: str, ca_package: Path) -> str:
    """A name for all that decides what is in the root. `packages` stands for the packages and their checksums."""
    parts = [str(PROCEDURE), platform.machine(), importlib.metadata.version("kiwi"), *_versions(package_manager)]
    parts += [digest(description), file_digest(ca_package), packages]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def take(name: str, workspace: Workspace, root: Path) -> bool:
    """Show on `root`, writable, the root that was kept under the key `name`; whether there was one, undamaged.

    What is changed in it stays in the workspace, where `show` finds it.
    """
    forget(workspace)
    path = next(cache.folder(cache.ROOTS).glob(f"*/{name}.*{_ENDING}"), None)
    if path is None:
        return False
    try:
        if not cache.claim(path, cache.ROOTS, workspace):
            raise OSError("it was removed in this moment")
        if file_digest(path) != path.name.split(".")[1]:
            path.unlink(missing_ok=True)
            raise OSError("its bytes are not those that were written")
        show(workspace, root)
    except (OSError, ImsError) as error:
        log.warning("the root kept from an earlier build cannot be used, packages are installed again: %s", error)
        forget(workspace)
        return False
    log.info("the packages are those of an earlier build: its root is used again")
    return True


def show(workspace: Workspace, root: Path) -> None:
    """Show an image root as the build left it. One that was made without a kept root is a plain folder already.

    Raises as `mount_image`.
    """
    if (path := cache.claimed_by(cache.ROOTS, workspace)) is not None:
        mount_image(path, workspace.image_root_changes, root, moves=True)


def forget(workspace: Workspace) -> None:
    """Have a workspace use no kept root, and no changes to one."""
    cache.unclaim(cache.ROOTS, workspace)
    shutil.rmtree(workspace.image_root_changes, ignore_errors=True)


def keep(lineage: str, name: str, root: Path) -> None:
    """Keep a root under the key `name` instead of any other of the recipe. If that is not possible, say so."""
    folder = cache.folder(cache.ROOTS) / lineage
    partial = folder / f"{name}.{uuid4().hex}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _run("mksquashfs", root, partial, "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "1")
        whole = partial.with_name(f"{name}.{file_digest(partial)}{_ENDING}")
        partial.rename(whole)
    except OSError as error:
        log.warning("the root with the packages is not kept for the next build: %s", error)
        with suppress(OSError):
            partial.unlink()
        return
    with cache.locked():
        for other in set(folder.glob(f"*{_ENDING}")) - cache.claimed() - {whole}:
            other.unlink(missing_ok=True)


def _versions(package_manager: str) -> list[str]:
    """What the programs of this machine that install the first packages say of themselves."""
    names = _PROGRAMS.get(package_manager, (package_manager.rstrip("4"), "rpm"))
    found = filter(None, map(shutil.which, names))
    return [subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout for name in found]


def _run(*command: str | Path) -> None:
    """Run a program. Raises OSError: what it said when it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}")
