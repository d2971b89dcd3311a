"""Makes the artifacts from the image root: rootfs, kernel, initrd, boot parameters and descriptions of the image."""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from ims.builder import image_secrets, inputs, package_root
from ims.builder.squashfs import KIWI_FILES, make_rootfs
from ims.errors import InputError, PermanentError
from ims.files import is_plain
from ims.images import site_ca
from ims.images.attributes import files_with_trusted_attributes
from ims.images.files import LIST as FILES
from ims.images.files import write_files
from ims.images.inventory import read_inventory
from ims.images.root import resolve_inside
from ims.images.sbom import SBOM, write_sbom
from ims.removal import remove
from ims.sandbox.call import call
from ims.sandbox.overlay import Layers, mount_lower, unpacks
from ims.settings import settings
from ims.steps.artifacts import Batch, PackedArtifact
from ims.steps.step import Step, StepInput
from ims.steps.views import view_of
from ims.storage import manifest
from ims.storage.digests import digest_file
from ims.workspace import Workspace

log = logging.getLogger(__name__)

DEFAULT_KERNEL = {"aarch64": "Image"}
SHOWN = 20
"""How many files a warning names."""


class Input(StepInput):
    """The names of files in the image's `/boot`, and its architecture.

    `rootfs` is the squashfs of the image that was customized, or None if the image root was built.
    """

    rootfs: Path | None = None
    arch: str
    kernel_file_name: str | None
    initrd_file_name: str
    kernel_parameters_file_name: str


def run(step: Input) -> list[Batch]:
    """Writes the artifacts to `artifacts/`.

    Returns two batches, which are uploaded in parallel: the rootfs, and all small artifacts. Raises PermanentError if
    the sandbox returns others than it may.
    """
    image = layers(step)
    if step.rootfs is not None:
        mount_lower(step.rootfs, step.workspace.changes, unpack=unpacks())
        call(trust_site_ca, step, view_of(step.workspace, image=image))
    batches = call(pack, step, view_of(step.workspace, image=image, everyone=True))
    _check(batches, step.workspace)
    if step.rootfs is not None:
        warn_of_lost_attributes(step.workspace)
    return batches


def layers(step: Input) -> Layers | None:
    """The image root as the steps before left it; None if it is a plain folder."""
    if step.rootfs is None:
        return package_root.layers(step.workspace)
    return Layers(step.rootfs, step.workspace.changes, step.workspace.image_root)


def _check(batches: list[Batch], workspace: Workspace) -> None:
    """Later steps upload these files with the rights of the service."""
    for artifact in (artifact for batch in batches for artifact in batch.artifacts):
        path = workspace.artifacts / artifact.name
        is_known = _media_types(workspace).get(path) == artifact.type and artifact.path == path
        if not is_known or not is_plain(path) or path.stat().st_size != artifact.size:
            raise PermanentError(f"the sandbox returned an artifact that it did not make: {artifact.path}")


def warn_of_lost_attributes(workspace: Workspace) -> None:
    """Log which files of an image that was customized lose attributes with the prefix `trusted.`."""
    files = list(files_with_trusted_attributes(workspace.base, workspace.changed_files))
    if files:
        shown = ", ".join(files[:SHOWN])
        log.warning(
            "a sandbox cannot pack attributes with the prefix trusted: %d files lose theirs: %s", len(files), shown
        )


def trust_site_ca(step: Input) -> None:
    """Add the site's CA certificate to an image that was customized; in the sandbox."""
    site_ca.add(step.workspace.image_root, settings().ca_certificate_path, settings().further_ca_files)


def pack(step: Input) -> list[Batch]:
    """Make the artifacts; in the sandbox."""
    workspace = step.workspace
    image_secrets.check(workspace, is_built=step.rootfs is None)
    remove(workspace.artifacts)
    workspace.artifacts.mkdir()
    for name, source in boot_files(workspace.image_root, step).items():
        shutil.copyfile(source, workspace.artifacts / name)
    write_build_inputs(workspace)
    with ThreadPoolExecutor(1) as pool:  # mksquashfs is a separate process
        description = pool.submit(describe_contents, workspace.image_root, workspace.artifacts)
        make_rootfs(workspace.image_root, workspace.artifacts / "rootfs")
        description.result()
    if workspace.change_list.exists():
        shutil.copyfile(workspace.change_list, workspace.artifacts / workspace.change_list.name)
    rootfs, *others = [_describe(path, kind) for path, kind in _media_types(workspace).items() if path.exists()]
    return [Batch(artifacts=[rootfs]), Batch(artifacts=others)]


def _media_types(workspace: Workspace) -> dict[Path, str]:
    """The media types of all artifacts that an image may have, in the order of the manifest."""
    names = {
        "rootfs": manifest.ROOTFS,
        "kernel": manifest.KERNEL,
        "initrd": manifest.INITRD,
        "boot_parameters": manifest.BOOT_PARAMETERS,
        workspace.change_list.name: manifest.CHANGES,
        workspace.build_inputs.name: manifest.PROVENANCE,
        SBOM: manifest.SBOM,
        FILES: manifest.FILES,
    }
    return {workspace.artifacts / name: kind for name, kind in names.items()}


def boot_files(root: Path, step: Input) -> dict[str, Path]:
    """The files of `/boot` by the name of their artifact. Raises InputError if the kernel or the initrd is missing."""
    kernel = step.kernel_file_name or DEFAULT_KERNEL.get(step.arch, "vmlinuz")
    found = {
        "kernel": _boot_file(root, kernel, "kernel_file_name"),
        "initrd": _boot_file(root, step.initrd_file_name, "initrd_file_name"),
    }
    parameters = resolve_inside(root, f"boot/{step.kernel_parameters_file_name}")
    if parameters is not None and parameters.is_file():
        found["boot_parameters"] = parameters
    return found


def _boot_file(root: Path, name: str, field: str) -> Path:
    path = resolve_inside(root, f"boot/{name}")
    if path is None or not path.is_file():
        boot = resolve_inside(root, "boot")
        found = ", ".join(sorted(path.name for path in boot.iterdir())) if boot is not None and boot.is_dir() else ""
        raise InputError(
            f"the image has no /boot/{name}; /boot has {found or 'nothing'}",
            f"Set {field}, or have the recipe make the file or a link to it",
        )
    return path


def write_build_inputs(workspace: Workspace) -> None:
    """Write the build inputs of an image that was built to the artifacts."""
    if (final := inputs.final_inputs(workspace)) is not None:
        (workspace.artifacts / workspace.build_inputs.name).write_text(final.model_dump_json())


def describe_contents(root: Path, folder: Path) -> None:
    """Write the SBOM of an image root and the list of its files."""
    inventory = read_inventory(root)
    (folder / SBOM).write_text(write_sbom(inventory))
    write_files(root, folder / FILES, KIWI_FILES)
    log.info(
        "the image contains %d packages, kernels: %s", len(inventory.packages), ", ".join(inventory.kernels) or "none"
    )


def _describe(path: Path, kind: str) -> PackedArtifact:
    digests = digest_file(path)
    log.info("%s: %d bytes, sha256 %s", path.name, digests.size, digests.sha256)
    return PackedArtifact(name=path.name, type=kind, path=path, **asdict(digests))


STEP = Step("package_artifacts", Input, run, privileged=True)
