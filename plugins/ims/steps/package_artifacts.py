"""Seed step 9, second half: make the artifacts (rootfs, kernel, initrd, boot parameters) from the image root."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from ims.errors import ImsError, InputError
from ims.images import site_ca
from ims.images.changes import VOLATILE
from ims.images.files import LIST as FILES
from ims.images.files import write_files
from ims.images.inventory import read_inventory
from ims.images.overlay import mount_image
from ims.images.reproducible import files_with_acls, lost_acls
from ims.images.root import resolve_inside
from ims.images.sbom import SBOM, write_sbom
from ims.settings import settings
from ims.steps import package_root, provenance
from ims.steps.artifacts import Batch, PackedArtifact
from ims.steps.build_host import kernel_file_systems
from ims.steps.step import Step, StepInput
from ims.storage import manifest
from ims.storage.digests import digest_file
from ims.workspace import Workspace

log = logging.getLogger(__name__)

# What kiwi leaves in the root for its own use, and what is not part of a file system at rest.
KIWIS_OWN = ("image", ".profile", ".kconfig")
LEFT_OUT = (*KIWIS_OWN, *(f"{folder}/{names}" for folder in sorted(VOLATILE) for names in ("*", ".*")))
DEFAULT_KERNEL = {"aarch64": "Image"}
# mksquashfs does not say of which file.
_LOST_ACL = "Unrecognised xattr prefix system.posix_acl_"
_PERCENT = re.compile(r"\[.*\]\s+\d+/\d+\s+(?P<percent>\d+)%")


class Input(StepInput):
    """File names are looked up in the image's `/boot`.

    `rootfs` is the squashfs of an image that was changed in the workspace; None where the root was built there.
    """

    rootfs: Path | None = None
    arch: str
    kernel_file_name: str | None
    initrd_file_name: str
    kernel_parameters_file_name: str


def run(step: Input) -> list[Batch]:
    """Writes the artifacts to the folder of artifacts.

    Returns two batches, which are uploaded in parallel: the rootfs, and all small artifacts.
    """
    root, folder = step.workspace.image_root, step.workspace.artifacts
    if step.rootfs is not None:
        show_changed_image(step.rootfs, step.workspace, root)
    else:
        package_root.show(step.workspace, root)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, source in boot_files(root, step).items():
        shutil.copyfile(source, folder / name)
    provenance.confirm(step.workspace, root, finished=True)
    with ThreadPoolExecutor(1) as beside:  # mksquashfs is a program of its own
        described = beside.submit(describe_contents, root, folder)
        make_rootfs(root, folder / "rootfs")
        described.result()
    for path in (step.workspace.change_list, step.workspace.build_inputs):
        if path.exists():
            shutil.copyfile(path, folder / path.name)
    types = {
        "rootfs": manifest.ROOTFS,
        "kernel": manifest.KERNEL,
        "initrd": manifest.INITRD,
        "boot_parameters": manifest.BOOT_PARAMETERS,
        step.workspace.change_list.name: manifest.CHANGES,
        step.workspace.build_inputs.name: manifest.PROVENANCE,
        SBOM: manifest.SBOM,
        FILES: manifest.FILES,
    }
    rootfs, *others = [_describe(folder / name, kind) for name, kind in types.items() if (folder / name).exists()]
    return [Batch(artifacts=[rootfs]), Batch(artifacts=others)]


def show_changed_image(rootfs: Path, workspace: Workspace, root: Path) -> None:
    """Mount the image with its changes and have it trust the site's CA."""
    mount_image(rootfs, workspace.changes, root)
    with kernel_file_systems(root):
        site_ca.add(root, settings().ca_certificate_path)


def boot_files(root: Path, step: Input) -> dict[str, Path]:
    """The files of `/boot` that become artifacts. Raises InputError: the kernel or the initrd is not there."""
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
        there = ", ".join(sorted(path.name for path in boot.iterdir())) if boot is not None and boot.is_dir() else ""
        raise InputError(
            f"the image has no /boot/{name}; /boot has {there or 'nothing'}",
            f"Set {field}, or have the recipe make the file or a link to it",
        )
    return path


def make_rootfs(root: Path, rootfs: Path) -> None:
    """Pack an image root. The same tree gives the same bytes, whatever the number of processors."""
    command = squashfs_command(root, rootfs)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    last, shown, has_acls = "", 0.0, False
    for line in _lines(process.stdout.fileno()):
        last = line or last
        percent = _PERCENT.search(line)
        if _LOST_ACL in line:
            has_acls = True
        elif percent is None:
            log.info("mksquashfs: %s", line)
        elif time.monotonic() - shown > 2:
            shown = time.monotonic()
            log.info("packing the rootfs: %s %%", percent["percent"])
    if process.wait() != 0:
        raise ImsError(f"mksquashfs ended with {process.returncode}: {last}", "See the log above")
    if has_acls:
        log.warning(lost_acls(root, list(files_with_acls(root))))


def describe_contents(root: Path, folder: Path) -> None:
    """Write the SBOM of an image root and the list of its files."""
    inventory = read_inventory(root)
    (folder / SBOM).write_text(write_sbom(inventory))
    write_files(root, folder / FILES, KIWIS_OWN)
    log.info(
        "the image holds %d packages, kernels: %s", len(inventory.packages), ", ".join(inventory.kernels) or "none"
    )


def squashfs_command(root: Path, rootfs: Path) -> list[str]:
    """The command line of mksquashfs, from the settings."""
    own = settings()
    processors = own.squashfs_processors or len(os.sched_getaffinity(0))
    return [
        *("mksquashfs", str(root), str(rootfs), "-noappend", "-comp", "zstd"),
        *("-Xcompression-level", str(own.squashfs_level), "-mkfs-time", "0"),
        *("-processors", str(processors), "-mem", f"{own.squashfs_memory_mib}M"),
        *("-wildcards", "-e", *LEFT_OUT),
    ]


def _lines(descriptor: int) -> Iterator[str]:
    """Lines of a program that draws its progress with carriage returns."""
    rest = b""
    while data := os.read(descriptor, 65536):
        *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
        yield from (text for line in lines if (text := line.decode(errors="replace").strip()))
    if rest.strip():
        yield rest.decode(errors="replace").strip()


def _describe(path: Path, kind: str) -> PackedArtifact:
    digests = digest_file(path)
    log.info("%s: %d bytes, sha256 %s", path.name, digests.size, digests.sha256)
    return PackedArtifact(name=path.name, type=kind, path=path, **asdict(digests))


STEP = Step("package_artifacts", Input, run, privileged=True)
