"""Measure the steps after a shell in which one file of a large image was changed, with S3 and without Airflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ims.builder.squashfs import KIWI_FILES, squashfs_command
from ims.images.files import LIST, write_files
from ims.runtime.local.process import StepProcess
from ims.runtime.local.runtime import LocalRuntime
from ims.sandbox.overlay import mount_image
from ims.settings import settings
from ims.stack.environment import s3_environment
from ims.steps import list_changes, package_artifacts, upload_artifacts
from ims.steps.artifacts import Batch
from ims.steps.origin import Origin
from ims.steps.step import Step
from ims.storage.manifest import INITRD, KERNEL, ROOTFS, Artifact, Link
from ims.storage.objects import ObjectName
from ims.storage.splicing import MIN_PART
from ims.workspace import Workspace
from tests.images.squashfs.overlays import mounted
from tests.images.trees import unmount
from tests.perf.measure import table
from tests.perf.splicing import FILES, FOLDERS, write_small_files
from tests.seaweedfs import EmbeddedS3, running

GIB = 10
_PART = 128 * 1024**2
_JOB = "large"


def large_table(folder: Path, gib: int = GIB) -> str:
    """Return the cost of each step for an image of `gib` GiB, and what was sent to S3."""
    rootfs = _rootfs(folder, gib)
    with mounted(rootfs, folder / "mounted") as image:
        write_files(image, folder / LIST, KIWI_FILES)
    (folder / "s3").mkdir()
    workspace = Workspace(LocalRuntime().open_workspace(_JOB, 1))
    try:
        with running(folder / "s3") as s3:
            rows, sent = _steps(s3, workspace, rootfs)
    finally:
        LocalRuntime().close_workspace(_JOB)
    size = rootfs.stat().st_size
    title = f"\n### one of {FOLDERS * FILES:,} files changed, {size / 1e9:.1f} GB\n\n"
    written = f"\n\nSent to S3: {sent / 1e6:.2f} MB, {100 * sent / size:.3f} % of the image.\n"
    return title + table(["step", "wall s", "CPU s", "CPU s of S3"], rows) + written


def _rootfs(folder: Path, gib: int) -> Path:
    """Pack many small files, and large ones that cannot be compressed and are never on the disk."""
    write_small_files(folder / "tree")
    noise = f"head -c {_PART} /dev/urandom"
    names = {"boot/vmlinuz": "head -c 8000000 /dev/urandom", "boot/initrd": "head -c 48000000 /dev/urandom"}
    names |= {f"data/{number}": noise for number in range(gib * 1024**3 // _PART)}
    lines = ["boot d 755 0 0", "data d 755 0 0", *(f"{name} f 644 0 0 {text}" for name, text in names.items())]
    (folder / "pseudo").write_text("".join(f"{line}\n" for line in lines))
    command = squashfs_command(folder / "tree", folder / "rootfs")
    at = command.index("-wildcards")
    command[at:at] = ["-noD", "-pf", str(folder / "pseudo")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(folder / "tree")
    return folder / "rootfs"


def _steps(s3: EmbeddedS3, workspace: Workspace, rootfs: Path) -> tuple[list[list[str]], int]:
    """Change a file, and run the steps; returns their costs, and the bytes that were sent."""
    old = ObjectName(settings().images_bucket, "old/rootfs")
    link = Link(path=str(old), etag=s3.store.upload(rootfs, old, {}).etag)
    _change(workspace, rootfs)
    shutil.copyfile(rootfs.with_name(LIST), workspace.old_files)
    origin = Origin(rootfs=str(old), artifacts=[Artifact(type=ROOTFS, md5="", link=link)])
    workspace.origin.write_text(origin.model_dump_json())
    image = {"workspace": str(workspace.root), "rootfs": str(rootfs)}
    boot = {"kernel_file_name": None, "initrd_file_name": "initrd", "kernel_parameters_file_name": "x"}
    rows: list[list[str]] = []
    _run(list_changes.STEP, image, rows, s3)
    batches = _run(package_artifacts.STEP, {**image, "arch": "x86_64", **boot}, rows, s3)
    artifact, *others = [item for batch in batches for item in Batch.model_validate(batch).artifacts]
    assert artifact.base is not None, "the rootfs was packed in full"
    job = {"workspace": str(workspace.root), "image_id": "new", "image_name": "new", "job_id": _JOB}
    each = Batch(artifacts=[artifact]).model_dump(mode="json")
    _run(upload_artifacts.STEP, {**job, "each": each}, rows, s3)
    stored = s3.store.stat(ObjectName(settings().images_bucket, "new/rootfs"))
    assert stored.size == artifact.size
    # In a job, S3 copies the kernel and the initrd.
    sent = sum(item.size for item in others if item.type not in (KERNEL, INITRD))
    return rows, sent + artifact.size - artifact.base.kept + MIN_PART


def _change(workspace: Workspace, rootfs: Path) -> None:
    try:
        mount_image(rootfs, workspace.changes, workspace.image_root)
        (workspace.image_root / "folder7/file7").write_text("changed\n")
    finally:
        unmount(workspace.root)
    workspace.notes.mkdir(exist_ok=True)


def _run(step: Step[Any], data: dict[str, Any], rows: list[list[str]], s3: EmbeddedS3) -> Any:
    """Run a step as a job does, and add a row with its costs."""
    with _measured(step.name, rows, s3.pid):
        return StepProcess().run(step, data, "large", print, s3_environment(s3.settings, s3.credentials))


@contextmanager
def _measured(name: str, rows: list[list[str]], s3: int) -> Iterator[None]:
    wall, own, others = time.monotonic(), _cpu_of_children(), _cpu_of(s3)
    yield
    costs = (time.monotonic() - wall, _cpu_of_children() - own, _cpu_of(s3) - others)
    rows.append([f"`{name}`", *(f"{cost:.1f}" for cost in costs)])


def _cpu_of_children() -> float:
    """Return the processor time of all processes that this one started and that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def _cpu_of(pid: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
