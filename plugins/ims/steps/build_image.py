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
from pathlib import Path

from ims.builder import host, inputs, kiwi, package_root
from ims.builder.network import build_network, network_use
from ims.builder.package_cache import package_cache
from ims.files import write_atomically
from ims.images import reproducible
from ims.images.tree import VOLATILE
from ims.network.policy import Policy
from ims.recipes import phases
from ims.recipes.description import APT
from ims.recipes.reading import RenderedRecipe
from ims.removal import remove
from ims.sandbox.call import NoSandboxError, call
from ims.sandbox.network import SandboxNetwork
from ims.sandbox.overlay import Layers
from ims.sandbox.squashfs import Squashfs, unpack
from ims.sandbox.view import View
from ims.steps.step import Step, StepInput
from ims.steps.views import view_of

log = logging.getLogger(__name__)

SPLIT_SECONDS = 300
"""How long it may take to write the descriptions."""
MAX_REASON = 1000
"""Characters of the reason that other packages are installed than predicted."""


class Input(StepInput):
    """`package_manager` is that of the recipe, `ca_package` the path of a package to install.

    Recipes of one `lineage` share their caches. `packages` is a digest of all packages that the build will install,
    including their checksums, or None if they cannot be predicted. With `force`, they are installed again, whatever
    earlier builds left.
    """

    lineage: str
    package_manager: str
    ca_package: Path
    packages: str | None = None
    force: bool = False


def run(step: Input) -> str:
    """Builds the root in `image-root/`, with kiwi's log in `kiwi.log`; returns the path of the root.

    Whatever runs programs of the recipe or of its packages, or reads the files that they made, does so in a sandbox.
    """
    workspace = step.workspace
    for path in workspace.left_by_build():
        remove(path)
    for note in (workspace.network_use, workspace.package_mismatch):
        note.unlink(missing_ok=True)
    policy = RenderedRecipe.load(workspace.recipe_summary).network.policy()
    # Before any program of the recipe runs: it could put something else in the place of the descriptions.
    call(split_recipe, step, view_of(workspace), seconds=SPLIT_SECONDS)
    with package_cache(step.lineage, workspace) as packages:
        work = Work(**step.model_dump(), packages_folder=packages, started=int(time.time()))
        prepare_root(work, policy)
        with build_network(workspace, policy, "scripts") as network:
            finish_root(work, network)
    return str(workspace.image_root)


def split_recipe(step: Input) -> None:
    """Write the two descriptions that kiwi builds one after the other; in the sandbox."""
    workspace = step.workspace
    expansion = RenderedRecipe.load(workspace.recipe_summary).expansion
    reproducible.set_times(workspace.recipe, kiwi.SOURCE_DATE_EPOCH)
    phases.write_package_part(workspace.recipe, workspace.package_description, expansion)
    phases.write_image_part(workspace.recipe, workspace.image_description, expansion)


class Work(Input):
    """The input of the functions that run in the sandbox.

    Package managers keep downloaded packages in `packages_folder`. `started` is when this build began.
    """

    packages_folder: Path
    started: int


def prepare_root(work: Work, policy: Policy) -> None:
    """Make a package root, or use the one of an earlier build. Raises the errors of `kiwi.install_packages`."""
    workspace, key = work.workspace, None
    package_root.discard(workspace)
    if work.packages is not None:
        key = package_root.compute_key(
            workspace.package_description, work.package_manager, work.packages, work.ca_package
        )
        if not work.force and package_root.restore(key, workspace):
            return
    with build_network(workspace, policy, "packages") as network:
        mismatch = call(install_packages, work, _view(work), network)
    if mismatch is not None:
        write_atomically(workspace.package_mismatch, mismatch[:MAX_REASON])
    # Later, programs of this recipe could change the package root, and other recipes have the same key. What it was
    # made of is not known if more was downloaded than packages.
    is_kept = mismatch is None and workspace.packed_root.exists() and not network_use(workspace).downloads
    if is_kept and key is not None:
        package_root.save(work.lineage, key, workspace)


def install_packages(work: Work) -> str | None:
    """Make a package root; in the sandbox. Packs it if it has the predicted packages; otherwise returns why not."""
    workspace, packages = work.workspace, work.packages_folder
    host.prepare(work.package_manager)
    package = f"file://{work.ca_package}"
    if work.package_manager == APT:
        # kiwi mounts the cache at the same path in the root, so apt-get finds the file there, too.
        package = str(shutil.copy(work.ca_package, packages))
    kiwi.install_packages(workspace, packages, package)
    normalize(work)
    if (mismatch := inputs.check_installed(workspace)) is None:
        package_root.pack(workspace)
    return mismatch


def finish_root(work: Work, network: SandboxNetwork) -> None:
    """Make the image root from the package root, which is mounted or, where that is impossible, unpacked."""
    workspace = work.workspace
    if (layers := package_root.layers(workspace)) is not None:
        try:
            call(finish, work, _view(work, layers), network)
        except NoSandboxError as error:
            log.warning("the package root is unpacked, since it cannot be mounted: %s", error)
        else:
            return
        package_root.discard(workspace)
        remove(workspace.image_root)
        packed = Squashfs(rootfs=layers.rootfs, folder=workspace.image_root)
        call(unpack, packed, view_of(workspace, readable=[layers.rootfs]))
    call(finish, work, _view(work), network)


def _view(work: Work, image: Layers | None = None) -> View:
    """What a build sees. It cannot change the recipe, which another try would read."""
    workspace = work.workspace
    fixed = (workspace.recipe, workspace.package_description, workspace.image_description)
    return view_of(workspace, work.packages_folder, readable=fixed, image=image)


def finish(work: Work) -> None:
    """Make the image root from the package root; in the sandbox."""
    host.prepare(work.package_manager)
    kiwi.finish(work.workspace, work.packages_folder)
    kiwi.run_images_script(work.workspace.image_root)
    normalize(work)


def normalize(work: Work) -> None:
    """Remove what differs between equal builds from the image root."""
    root = work.workspace.image_root
    reproducible.normalize(root, work.started, kiwi.SOURCE_DATE_EPOCH, work.workspace.root)
    for name in VOLATILE:
        # The image does not contain what was mounted or written here, but the time of the folder would show it.
        os.utime(root / name, (kiwi.SOURCE_DATE_EPOCH,) * 2, follow_symlinks=False)


STEP = Step("build_image", Input, run, privileged=True)
