"""The root with a recipe's packages, kept from one build for the next.

Each lineage of recipes has a folder below `cache/roots`, with at most one root that is whole, a squashfs. Its name says
what it was made of and what its bytes are: it is used for nothing else, whatever the recipe, and not when it is
damaged. It may be removed at any time.
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

from ims.recipes.archive import digest
from ims.recipes.description import APT
from ims.settings import settings
from ims.storage.digests import digest_file

log = logging.getLogger(__name__)

PROCEDURE = 1
"""To be raised when a build installs packages in another way: roots that are kept from before are then of no use."""
_PROGRAMS = {APT: ("apt-get", "dpkg")}
_ENDING = ".squashfs"


def key(description: Path, package_manager: str, packages: str, ca_package: Path) -> str:
    """A name for all that decides what is in the root. `packages` stands for the packages and their checksums."""
    parts = [str(PROCEDURE), platform.machine(), importlib.metadata.version("kiwi"), *_versions(package_manager)]
    parts += [digest(description), digest_file(ca_package).sha256, packages]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def restore(name: str, root: Path) -> bool:
    """Unpack the root that was kept under the key `name`; whether there was one, undamaged."""
    path = next(_folder().glob(f"*/{name}.*{_ENDING}"), None)
    if path is None:
        return False
    try:
        if digest_file(path).sha256 != path.name.split(".")[1]:
            raise OSError("its bytes are not those that were written")
        _run("unsquashfs", "-quiet", "-no-progress", "-dest", root, path)
    except OSError as error:
        log.warning("the root kept from an earlier build cannot be used, packages are installed again: %s", error)
        shutil.rmtree(root, ignore_errors=True)
        path.unlink(missing_ok=True)
        return False
    log.info("the packages are those of an earlier build: its root is used again")
    return True


def keep(lineage: str, name: str, root: Path) -> None:
    """Keep a root under the key `name` instead of any other of the recipe. If that is not possible, say so."""
    folder = _folder() / lineage
    partial = folder / f"{name}.{uuid4().hex}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _run("mksquashfs", root, partial, "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "1")
        whole = partial.with_name(f"{name}.{digest_file(partial).sha256}{_ENDING}")
        partial.rename(whole)
    except OSError as error:
        log.warning("the root with the packages is not kept for the next build: %s", error)
        with suppress(OSError):
            partial.unlink()
        return
    for other in folder.glob(f"*{_ENDING}"):
        if other != whole:
            other.unlink(missing_ok=True)


def _folder() -> Path:
    return settings().home / "cache" / "roots"


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
