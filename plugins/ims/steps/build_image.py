"""Builds the image root with kiwi-ng.

`kiwi-ng system prepare` runs twice: first it installs the packages, then it does everything else in the root that has
them. A build that starts from a cached package root therefore gives the same image as any other build. `kiwi-ng system
build` and `create` are not used because they would also make an archive, which is not needed; the recipe's
`images.sh`, which they would run, is run here.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ims import cache
from ims.builder import host, inputs, kiwi, package_root
from ims.images import reproducible
from ims.images.tree import VOLATILE
from ims.recipes import phases
from ims.recipes.description import APT
from ims.removal import remove
from ims.steps.step import Step, StepInput
from ims.workspace import Workspace

log = logging.getLogger(__name__)


class Input(StepInput):
    """`package_manager` is that of the recipe, `ca_package` the path of a package to install.

    Recipes of one `lineage` share their caches. `packages` is a digest of all packages that the build will install,
    including their checksums, or None if they cannot be predicted.
    """

    lineage: str
    package_manager: str
    ca_package: Path
    packages: str | None = None


def run(step: Input) -> str:
    """Builds the root in `image-root/`, with kiwi's log in `kiwi.log`; returns the path of the root."""
    workspace, started = step.workspace, int(time.time())
    remove(workspace.image_root)
    for path in (workspace.kiwi_log, workspace.package_mismatch):
        path.unlink(missing_ok=True)
    reproducible.clamp_times(workspace.recipe, kiwi.SOURCE_DATE_EPOCH)
    host.isolate(step.package_manager, workspace)
    with package_cache(step) as packages:
        install_packages(step, packages, started)
        phases.write_image_part(workspace.recipe, workspace.image_description)
        kiwi.finish(workspace, packages)
    kiwi.run_images_script(workspace.image_root)
    normalize(workspace, started)
    return str(workspace.image_root)


@contextmanager
def package_cache(step: Input) -> Iterator[Path]:
    """The package cache of the lineage, or a private one if another job uses it.

    Package managers fail if two of them share a cache.
    """
    shared = cache.folder(cache.PACKAGES) / step.lineage
    shared.mkdir(parents=True, exist_ok=True)
    with cache.try_lock(shared.with_suffix(".lock")) as is_locked:
        if not is_locked:
            log.info("another job uses the package cache of this recipe: all packages are downloaded again")
        yield shared if is_locked else step.workspace.package_cache


def install_packages(step: Input, packages: Path, started: int) -> None:
    """Make a package root, or use the one of an earlier build. Raises the errors of `kiwi.install_packages`."""
    workspace, key = step.workspace, None
    phases.write_package_part(workspace.recipe, workspace.package_description)
    if step.packages is not None:
        key = package_root.compute_key(
            workspace.package_description, step.package_manager, step.packages, step.ca_package
        )
        if package_root.restore(key, workspace):
            return
    packages.mkdir(parents=True, exist_ok=True)
    package = f"file://{step.ca_package}"
    if step.package_manager == APT:
        # kiwi mounts the cache at the same path in the root, so apt-get finds the file there, too.
        package = str(shutil.copy(step.ca_package, packages))
    kiwi.install_packages(workspace, packages, package)
    normalize(workspace, started)
    if inputs.check_installed(workspace) and key is not None:
        package_root.save(step.lineage, key, workspace.image_root)


def normalize(workspace: Workspace, started: int) -> None:
    """Remove what differs between equal builds from the image root. `started` is when this build began."""
    root = workspace.image_root
    reproducible.normalize(root, started, kiwi.SOURCE_DATE_EPOCH, workspace.root)
    for name in VOLATILE:
        # The image does not contain what was mounted or written here, but the time of the folder would show it.
        os.utime(root / name, (kiwi.SOURCE_DATE_EPOCH,) * 2, follow_symlinks=False)


STEP = Step("build_image", Input, run, privileged=True)
