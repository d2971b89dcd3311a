"""Makes the artifacts from the image root: rootfs, kernel, initrd, boot parameters and descriptions of the image."""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from pydantic import ConfigDict

from ims.builder import image_secrets, inputs, package_root
from ims.builder.contents import describe_contents
from ims.builder.root_base import write_rootfs
from ims.builder.splicing import HEAD, splice_rootfs
from ims.builder.squashfs import make_rootfs
from ims.errors import InputError, PermanentError
from ims.files import is_plain
from ims.images import site_ca
from ims.images.attributes import files_with_trusted_attributes
from ims.images.derivation import Layer, has_changed_links
from ims.images.files import LIST as FILES
from ims.images.root import resolve_inside
from ims.images.sbom import SBOM
from ims.images.squashfs.superblock import SpliceError
from ims.images.squashfs.upper import opaque_folders
from ims.removal import remove
from ims.replays.customization import Customization
from ims.sandbox.call import call
from ims.sandbox.overlay import UPPER, Layers, mount_lower, unpacks
from ims.settings import settings
from ims.steps.artifacts import Base, Batch, PackedArtifact, batches
from ims.steps.build_base import find_or_pack
from ims.steps.deltas import use_origin
from ims.steps.origin import Origin, read
from ims.steps.step import Step, StepInput
from ims.steps.views import view_of
from ims.storage import manifest
from ims.storage.digests import digest, digest_file
from ims.storage.splicing import MIN_KEPT, spliced_chunks
from ims.workspace import Workspace

log = logging.getLogger(__name__)

DEFAULT_KERNEL = {"aarch64": "Image"}
_IN_FULL = "the rootfs is packed in full, because that of the old image cannot be continued: %s"
_CONTINUED = "%s has the first %d bytes of %s, and removed files can be recovered, unless a job sets pack_in_full"
SHOWN = 20
"""How many files a warning names."""


class Input(StepInput):
    """The names of files in the image's `/boot`, and its architecture.

    `rootfs` is the squashfs of the image that was customized, or None if the image root was built. With `pack_in_full`,
    the new one has none of its bytes.
    """

    rootfs: Path | None = None
    pack_in_full: bool = False
    arch: str
    kernel_file_name: str | None
    initrd_file_name: str
    kernel_parameters_file_name: str


class Packing(Input):
    """The input with what only root of the host can find out about an image that is customized.

    `origin` is what S3 has of it, `opaque` are the folders that hide those of the image. None: the rootfs is packed in
    full. `is_complete`: the upper folder of the overlay has all changes, so the list of files can be derived from it.
    An image that was built has a `base` instead of a `rootfs`, see `ims.steps.build_base`.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    origin: Origin = Origin()
    opaque: list[bytes] | None = None
    is_complete: bool = False
    base: Path | None = None


def run(step: Input) -> list[Batch]:
    """Writes the artifacts to `artifacts/`.

    Returns two batches, which are uploaded in parallel: the rootfs, and all small artifacts. Raises PermanentError if
    the sandbox returns others than it may.
    """
    image = layers(step)
    if step.rootfs is not None:
        mount_lower(step.rootfs, step.workspace.changes, unpack=unpacks())
        call(trust_site_ca, step, view_of(step.workspace, image=image))
    packing = _packing(step)
    below = packing.base or packing.rootfs
    readable = [below] if below is not None and packing.opaque is not None else []
    artifacts = call(pack, packing, view_of(step.workspace, readable=readable, image=image, everyone=True))
    check_result(artifacts, packing)
    use_origin(artifacts, packing.origin, step.workspace.old_files)
    if step.rootfs is not None:
        warn_of_lost_attributes(step.workspace, is_continued=artifacts[0].base is not None)
        artifacts.extend(kept_inputs(step.workspace))
    return batches(artifacts)


def layers(step: Input) -> Layers | None:
    """The image root as the steps before left it; None if it is a plain folder."""
    if step.rootfs is None:
        return package_root.layers(step.workspace)
    return Layers(step.rootfs, step.workspace.changes, step.workspace.image_root)


def _packing(step: Input) -> Packing:
    """How the rootfs is packed. The log says why, if it is that of a customized image and packed in full."""
    packing = Packing(**dict(step), origin=read(step.workspace))
    if step.rootfs is None:
        found = find_or_pack(step.workspace, layers(step))
        return packing if found is None else packing.model_copy(update=found._asdict())
    try:
        if step.pack_in_full or not settings().squashfs_splice:
            raise SpliceError("the job sets pack_in_full" if step.pack_in_full else "IMS_SQUASHFS_SPLICE is off")
        if unpacks():
            raise SpliceError("it was not mounted (IMS_SQUASHFS)")
        if not packing.origin.rootfs:
            raise SpliceError("an earlier version fetched the old image")
        opaque = opaque_folders(step.workspace.changes)
        is_complete = not has_changed_links(step.workspace.changes)
        return packing.model_copy(update={"opaque": opaque, "is_complete": is_complete})
    except SpliceError as error:
        log.info(_IN_FULL, error.reason)
        return packing


def check_result(artifacts: list[PackedArtifact], packing: Packing) -> None:
    """Checks what the sandbox returned: later steps upload these files with the rights of the service.

    Raises PermanentError if it contains an artifact that `pack` does not make.
    """
    workspace = packing.workspace
    for artifact in artifacts:
        path = workspace.artifacts / artifact.name
        is_known = _media_types(workspace).get(path) == artifact.type and artifact.path == path
        is_known = is_known and _has_right_base(artifact, packing) and not (artifact.original or artifact.delta)
        if not is_known or not is_plain(path) or path.stat().st_size != artifact.stored_size:
            raise PermanentError(f"the sandbox returned an artifact that it did not make: {artifact.path}")


def _has_right_base(artifact: PackedArtifact, packing: Packing) -> bool:
    """Whether an artifact has no base, or is the rootfs and continues that of the image that is customized."""
    if (base := artifact.base) is None:
        return True
    if packing.rootfs is None or packing.opaque is None or artifact.type != manifest.ROOTFS:
        return False
    is_possible = MIN_KEPT <= base.kept <= packing.rootfs.stat().st_size and base.head == HEAD
    return is_possible and (base.url, base.path, base.etag) == (
        packing.origin.rootfs,
        packing.rootfs,
        packing.origin.etag,
    )


def kept_inputs(workspace: Workspace) -> list[PackedArtifact]:
    """The build inputs of a customized image as artifacts. Outside of the sandbox, which could replace them.

    Raises PermanentError if the archive is not that of the playbook that ran.
    """
    if not workspace.customization.exists():
        return []
    found = Customization.model_validate_json(workspace.customization.read_bytes())
    kept = [_describe(workspace.customization, manifest.CUSTOMIZATION)]
    if found.playbook is not None:
        replaced = PermanentError("a program of the job replaced the archive of the playbook")
        if not is_plain(workspace.playbook_archive):
            raise replaced
        kept.append(_describe(workspace.playbook_archive, manifest.PLAYBOOK))
        if kept[-1].sha256 != found.playbook:
            raise replaced
    return kept


def warn_of_lost_attributes(workspace: Workspace, *, is_continued: bool) -> None:
    """Log which files lose attributes with the prefix `trusted.`. A base whose rootfs is continued has none."""
    files = list(files_with_trusted_attributes(None if is_continued else workspace.base, workspace.changed_files))
    if files:
        text = "a sandbox cannot pack attributes with the prefix trusted: %d files lose theirs: %s"
        log.warning(text, len(files), ", ".join(files[:SHOWN]))


def trust_site_ca(step: Input) -> None:
    """Add the site's CA certificate to an image that was customized; in the sandbox."""
    site_ca.add(step.workspace.image_root, settings().ca_certificate_path, settings().further_ca_files)


def pack(step: Packing) -> list[PackedArtifact]:
    """Make the artifacts; in the sandbox."""
    workspace = step.workspace
    if step.base is None and image_secrets.check(workspace, is_built=step.rootfs is None) and step.opaque is not None:
        log.info(_IN_FULL, "secrets were removed, and could be recovered from it")
        step = step.model_copy(update={"opaque": None, "is_complete": False})
    remove(workspace.artifacts)
    workspace.artifacts.mkdir()
    for name, source in boot_files(workspace.image_root, step).items():
        shutil.copyfile(source, workspace.artifacts / name)
    inputs.write_final_inputs(workspace)
    with ThreadPoolExecutor(1) as pool:  # mksquashfs is a separate process
        known = (workspace.old_files, _layer(step)) if workspace.old_files.exists() else (None, None)
        description = pool.submit(describe_contents, workspace.image_root, workspace.artifacts, *known)
        base = _pack_rootfs(step, workspace.artifacts / "rootfs")
        description.result()
    for changes in (workspace.change_list, workspace.capture):
        if changes.exists():
            shutil.copyfile(changes, workspace.artifacts / changes.name)
    (rootfs, kind), *others = [item for item in _media_types(workspace).items() if item[0].exists()]
    return [_describe(rootfs, kind, base), *(_describe(path, kind) for path, kind in others)]


def _pack_rootfs(step: Packing, target: Path) -> Base | None:
    """Pack the rootfs. Returns the base that it continues, or None if it was packed in full."""
    if step.rootfs is not None and step.opaque is not None:
        try:
            if removed := image_secrets.removed_secrets(step.workspace.base, step.workspace.image_root):
                raise SpliceError(f"{removed[0]} was removed or changed, and could be recovered from it")
            image = Layers(step.rootfs, step.workspace.changes, step.workspace.image_root)
            kept = splice_rootfs(image, step.opaque, target)
            return Base(url=step.origin.rootfs, path=step.rootfs, kept=kept, head=HEAD, etag=step.origin.etag)
        except SpliceError as error:
            log.info(_IN_FULL, error.reason)
    if step.base is not None and step.opaque is not None:
        try:
            write_rootfs(step.base, step.workspace.image_root_changes, step.opaque, target)
            return None
        except SpliceError as error:
            log.info("the rootfs is packed in full: %s", error.reason)
    make_rootfs(step.workspace.image_root, target)
    return None


def _layer(step: Packing) -> Layer | None:
    """The changes from which the list of files can be derived."""
    if step.opaque is None or not step.is_complete:
        return None
    changes = step.workspace.image_root_changes if step.rootfs is None else step.workspace.changes
    return Layer(changes / UPPER, step.workspace.image_root, step.opaque)


def _media_types(workspace: Workspace) -> dict[Path, str]:
    """The media types of all artifacts that an image may have, in the order of the manifest."""
    names = {
        "rootfs": manifest.ROOTFS,
        "kernel": manifest.KERNEL,
        "initrd": manifest.INITRD,
        "boot_parameters": manifest.BOOT_PARAMETERS,
        workspace.change_list.name: manifest.CHANGES,
        workspace.capture.name: manifest.CAPTURE,
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


def _describe(path: Path, kind: str, base: Base | None = None) -> PackedArtifact:
    if base is None:
        digests = digest_file(path)
    else:
        digests = digest(spliced_chunks(base.path, base.continued_by(path)))
        log.info(_CONTINUED, path.name, base.kept, base.url)
    log.info("%s: %d bytes, sha256 %s", path.name, digests.size, digests.sha256)
    return PackedArtifact(name=path.name, type=kind, path=path, base=base, **asdict(digests))


STEP = Step("package_artifacts", Input, run, privileged=True)
