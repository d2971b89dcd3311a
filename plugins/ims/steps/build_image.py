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
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from ims.builder import host, inputs, kiwi, package_root
from ims.builder.network import build_network, network_use
from ims.builder.package_cache import package_cache
from ims.errors import ImsError
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
from ims.sandbox.overlay import LOWER, Layers, mount_lower, unmount
from ims.sandbox.squashfs import Squashfs, unpack
from ims.sandbox.view import View
from ims.steps.step import Step, StepInput
from ims.steps.views import view_of
from ims.workspace import Workspace

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
    for path in left_by_build(workspace):
        remove(path)
    for note in (workspace.network_use, workspace.package_mismatch):
        note.unlink(missing_ok=True)
    policy = RenderedRecipe.load(workspace.recipe_summary).network.policy()
    # Before any program of the recipe runs: it could put something else in the place of the descriptions.
    call(split_recipe, step, view_of(workspace), seconds=SPLIT_SECONDS)
    with package_cache(step.lineage, workspace) as packages:
        work = Work(**step.model_dump(), packages_folder=packages, started=int(time.time()))
        key = prepare_root(work, policy)
        with build_network(workspace, policy, "scripts") as network, ThreadPoolExecutor(1) as pool:
            keeping = [] if key is None else [pool.submit(keep_root, work, key)]
            finish_root(work, network, keeping)
            for future in keeping:
                future.result()
    return str(workspace.image_root)


def left_by_build(workspace: Workspace) -> tuple[Path, ...]:
    """What an earlier try may have left.

    Programs of the recipe could write to it. Other recipes may use the package root that the next try makes.
    """
    own = (workspace.package_cache, workspace.replaced_files, workspace.kiwi_temporary, workspace.kiwi_home)
    roots = (workspace.image_root, workspace.package_root, workspace.kept_root, workspace.image_root_changes)
    return (*own, *roots, workspace.kiwi_config, workspace.kiwi_log)


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


def prepare_root(work: Work, policy: Policy) -> str | None:
    """Make a package root, or use the one of an earlier build.

    Returns the key with which the new one can be kept, or None. Raises the errors of `kiwi.install_packages`.
    """
    workspace, key = work.workspace, None
    package_root.discard(workspace)
    if work.packages is not None:
        key = package_root.compute_key(
            workspace.package_description, work.package_manager, work.packages, work.ca_package
        )
        if not work.force and package_root.restore(key, workspace):
            return None
    with build_network(workspace, policy, "packages") as network:
        mismatch = call(install_packages, work, _view(work), network)
    if mismatch is not None:
        write_atomically(workspace.package_mismatch, mismatch[:MAX_REASON])
    for path in (workspace.package_root, workspace.image_root_changes):  # a program of a package could make them
        remove(path)
    workspace.image_root.rename(workspace.package_root)
    # What it was made of is not known if more was downloaded than packages.
    return key if mismatch is None and not network_use(workspace).downloads else None


def install_packages(work: Work) -> str | None:
    """Make a package root; in the sandbox. Returns why it has other packages than predicted, or None."""
    workspace, packages = work.workspace, work.packages_folder
    host.prepare(work.package_manager)
    package = f"file://{work.ca_package}"
    if work.package_manager == APT:
        # kiwi mounts the cache at the same path in the root, so apt-get finds the file there, too.
        package = str(shutil.copy(work.ca_package, packages))
    kiwi.install_packages(workspace, packages, package)
    normalize(work)
    return inputs.check_installed(workspace)


def keep_root(work: Work, key: str) -> None:
    """Keep the package root for later builds. Meanwhile, programs of this recipe run, which must not change it.

    Logs failures.
    """
    workspace = work.workspace
    try:
        lower = mount_lower(workspace.package_root, workspace.image_root_changes, unpack=False)
        call(pack_root, work, view_of(workspace, readable=[lower]))
        if workspace.packed_root.exists():
            package_root.save(work.lineage, key, workspace)
    except (ImsError, OSError) as error:
        log.warning(package_root.NOT_KEPT, error)


def pack_root(work: Work) -> None:
    """Pack the package root; in a sandbox of its own."""
    package_root.pack(work.workspace.image_root_changes / LOWER, work.workspace)


def finish_root(work: Work, network: SandboxNetwork, keeping: Collection[Future[None]]) -> None:
    """Make the image root: mount an overlay over the package root and change it.

    A package root that cannot be mounted is unpacked. If overlays cannot be mounted, the image root becomes a plain
    folder as soon as `keeping`, which packs the package root, has ended.
    """
    workspace = work.workspace
    if _finish_layers(work, network):
        return
    if not workspace.package_root.exists() and (layers := package_root.layers(workspace)) is not None:
        remove(workspace.image_root_changes)
        packed = Squashfs(rootfs=layers.rootfs, folder=workspace.package_root)
        call(unpack, packed, view_of(workspace, readable=[layers.rootfs]))
        if _finish_layers(work, network):
            return
    wait(keeping)
    if os.path.ismount(lower := workspace.image_root_changes / LOWER):
        unmount(lower)
    package_root.discard(workspace)
    remove(workspace.image_root)
    workspace.package_root.rename(workspace.image_root)
    call(finish, work, _view(work), network)


def _finish_layers(work: Work, network: SandboxNetwork) -> bool:
    """Returns False if this machine cannot mount the layers."""
    folder = work.workspace.package_root
    is_cached = not folder.exists()
    try:
        call(finish, work, _view(work, package_root.layers(work.workspace)), network)
    except NoSandboxError as error:
        log.warning("the package root cannot be mounted: %s", error)
        return False
    finally:
        if is_cached:  # programs of the recipe could make one, which later steps would take for the package root
            remove(folder)
    return True


def _view(work: Work, image: Layers | None = None) -> View:
    """What a build sees.

    It cannot change the recipe, which another try would read, nor the package root: other recipes have the same key.
    """
    workspace = work.workspace
    fixed = [workspace.recipe, workspace.package_description, workspace.image_description]
    if workspace.package_root.exists():
        fixed.append(workspace.package_root)
    return view_of(workspace, work.packages_folder, readable=fixed, hidden=[workspace.kept_root], image=image)


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
