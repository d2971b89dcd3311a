"""Packing an image that was built: the files that it kept of its package root, and its changes behind them."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest

from ims.builder import package_root
from ims.builder.root_base import write_patterns
from ims.builder.squashfs import KIWI_FILES, make_rootfs
from ims.images.files import LIST as FILES
from ims.images.files import write_files
from ims.images.reproducible import normalize
from ims.images.squashfs.superblock import SpliceError
from ims.images.tree import VOLATILE
from ims.removal import remove
from ims.runtime.local.process import StepProcess
from ims.runtime.local.runtime import LocalRuntime
from ims.sandbox.overlay import mount_image, mount_lower
from ims.settings import settings
from ims.steps.artifacts import Batch
from ims.steps.package_artifacts import STEP
from ims.workspace import Workspace
from tests.images.squashfs.overlays import check_numbers, mounted
from tests.images.squashfs.trees import (
    TIME,
    Change,
    add_deep,
    add_links,
    change_attributes,
    change_devices,
    change_link_and_remove_it,
    change_link_in_place,
    change_long_folder,
    change_nothing,
    change_one,
    make_holes,
    noise,
    remove_link,
    remove_some,
    replace_folder,
    replace_link,
    swap_kinds,
    write_tree,
)
from tests.images.trees import snapshot, unmount

pytestmark = pytest.mark.system

REUSED = "only the changes are packed"
DERIVED = "the list of files is that of the old image with the changes"
HOST_KEY = "etc/ssh/ssh_host_rsa_key"


@pytest.fixture(autouse=True)
def splice(configure: Callable[..., None]) -> None:
    """Builds are spliced."""
    configure(squashfs_splice_builds=True)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package root with files of every kind, also with those that are not part of images."""
    root = tmp_path_factory.mktemp("tree") / "root"
    write_tree(root)
    for name in ("boot", "proc", "root", "run", "sys", "tmp", "etc/ssh", "image"):
        (root / name).mkdir()
    for name in ("boot/vmlinuz", "boot/initrd", ".profile", "run/lock", "image/config.xml"):
        (root / name).write_text(f"this is {name}")
    (root / "usr/lib/large").write_bytes(random.randbytes(12 * 1024**2) + bytes(24 * 1024**2))  # noqa: S311
    return root


class Packed(NamedTuple):
    """A rootfs, its list of files, and the log."""

    rootfs: bytes
    files: bytes
    log: str


class Jobs:
    """Makes images of one lineage from one package root."""

    def __init__(self, tree: Path, folder: Path) -> None:
        self.lineage, self.tree, self.folder = str(uuid4()), tree, folder

    def cold(self, change: Change) -> Packed:
        """Build with the package root as a folder, and keep it."""
        return self._run(change, self._keep)

    def warm(self, change: Change) -> Packed:
        """Build from the kept package root."""
        return self._run(change, self._restore)

    def kept(self, suffix: str) -> list[Path]:
        """The files of a kind in the cache."""
        return list((settings().home / "cache/roots" / self.lineage).glob(f"*{suffix}"))

    def _keep(self, workspace: Workspace) -> None:
        subprocess.run(["cp", "--archive", self.tree, workspace.package_root], check=True)
        lower = mount_lower(workspace.package_root, workspace.image_root_changes, unpack=False)
        package_root.pack(lower, workspace)
        package_root.save(self.lineage, self.lineage, workspace)

    def _restore(self, workspace: Workspace) -> None:
        assert package_root.restore(self.lineage, workspace)

    def _run(self, change: Change, prepare: Callable[[Workspace], None]) -> Packed:
        runtime, job = LocalRuntime(), str(uuid4())
        workspace = Workspace(runtime.open_workspace(job, 1))
        workspace.notes.mkdir()
        try:
            prepare(workspace)
            found = package_root.layers(workspace)
            assert found is not None
            try:
                mount_image(found.rootfs, found.changes, found.target, redirect=found.redirect)
                started = time.time()
                change(found.target)
                normalize(found.target, started, TIME, workspace.root)
                for name in VOLATILE:
                    os.utime(found.target / name, (TIME, TIME))
            finally:
                unmount(workspace.root)
            return self._package(workspace)
        finally:
            unmount(workspace.root)
            runtime.close_workspace(job)

    def _package(self, workspace: Workspace) -> Packed:
        """Run the step, and pack what the kernel shows in full to compare it."""
        data = {
            **{"workspace": str(workspace.root), "arch": "x86_64", "kernel_file_name": None},
            **{"initrd_file_name": "initrd", "kernel_parameters_file_name": "x"},
        }
        lines: list[str] = []
        (batch, *_) = StepProcess().run(STEP, data, "package", lines.append)
        rootfs = Batch.model_validate(batch).artifacts[0]
        assert rootfs.base is None
        assert rootfs.stored_size == rootfs.path.stat().st_size
        found = package_root.layers(workspace)
        assert found is not None
        (self.folder / "full").unlink(missing_ok=True)
        try:
            mount_image(found.rootfs, found.changes, found.target, redirect=found.redirect)
            make_rootfs(found.target, self.folder / "full")
            write_files(found.target, self.folder / FILES, KIWI_FILES)
        finally:
            unmount(workspace.root)
        files = (workspace.artifacts / FILES).read_bytes()
        assert files == (self.folder / FILES).read_bytes()
        with mounted(self.folder / "full", self.folder / "a") as full, mounted(rootfs.path, self.folder / "b") as built:
            assert snapshot(built) == snapshot(full)
            check_numbers(built)
        return Packed(rootfs.path.read_bytes(), files, "\n".join(lines))

    def full(self) -> bytes:
        """The rootfs of the last job, packed in full."""
        return (self.folder / "full").read_bytes()


@pytest.fixture
def jobs(tree: Path, tmp_path: Path) -> Iterator[Jobs]:
    """A lineage without a package root."""
    yield Jobs(tree, tmp_path)
    unmount(tmp_path)
    remove(settings().home / "cache/roots")


def change_most(root: Path) -> None:
    """Everything that does not contradict."""
    for change in (change_one, add_deep, remove_some, swap_kinds, replace_folder, add_links, change_devices):
        change(root)
    change_long_folder(root)
    make_holes(root)


def change_links(root: Path) -> None:
    """Names of files that have several."""
    replace_link(root)
    remove_link(root)
    (root / "links/l2").write_text("through one name")


CHANGES = [change_nothing, change_most, change_attributes, change_links, change_link_and_remove_it]


@pytest.mark.parametrize("change", CHANGES)
def test_same_bytes_cold_and_warm(jobs: Jobs, change: Change) -> None:
    """The tree and the list of files are those of full packing. Later builds pack only the changes."""
    cold = jobs.cold(change)
    assert "packed in full" not in cold.log
    assert cold.rootfs != jobs.full()
    again = jobs.warm(change)
    assert REUSED in again.log
    assert REUSED not in cold.log
    assert again.rootfs == cold.rootfs
    for path in jobs.kept(".base"):
        path.unlink()
    assert jobs.warm(change).rootfs == cold.rootfs
    assert len(jobs.kept(".base")) == 1


def test_links_that_packages_share(jobs: Jobs) -> None:
    """Only root of the host sees that the upper folder lacks names, so the list of files is computed."""
    assert DERIVED in jobs.cold(change_one).log
    assert DERIVED not in jobs.cold(change_link_in_place).log


def test_nothing_removed_is_in_the_bytes(jobs: Jobs) -> None:
    """Neither what a script removed, nor a secret that the service removed, is in the rootfs or kept for others."""
    removed, key = noise(39 * 9000 + 1, 39)[:100], noise(300_000, 77)

    def change(root: Path) -> None:
        (root / "usr/lib/x/f39").unlink()

    key_file = jobs.tree / HOST_KEY
    key_file.write_bytes(key)
    try:
        cold = jobs.cold(change)
    finally:
        key_file.unlink()
    assert f"removed from the image: /{HOST_KEY}" in cold.log
    assert "packed in full" not in cold.log
    warm = jobs.warm(change)
    assert REUSED in warm.log
    (base,) = jobs.kept(".base")
    for found in (cold.rootfs, warm.rootfs, base.read_bytes()):
        assert removed not in found
        assert key[:100] not in found


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: bytes(len(data))])
def test_damaged_base(jobs: Jobs, damage: Callable[[bytes], bytes]) -> None:
    """It is packed again, and so is the list of files."""
    cold = jobs.cold(change_one)
    for path in (*jobs.kept(".base"), *jobs.kept(".files")):
        path.write_bytes(damage(path.read_bytes()))
    warm = jobs.warm(change_one)
    assert warm.log.count("is damaged: its digest is not that of its file name") == 1
    assert REUSED not in warm.log
    assert warm.rootfs == cold.rootfs
    assert warm.files == cold.files
    assert REUSED in jobs.warm(change_one).log


def test_other_changes(jobs: Jobs) -> None:
    """A base serves all builds that keep the same files. Others replace it, unless a job may be reading it."""
    jobs.cold(change_one)
    (first,) = jobs.kept(".base")
    assert REUSED not in jobs.warm(remove_some).log
    (second,) = jobs.kept(".base")
    assert second != first


def rename_folder(root: Path) -> None:
    """The overlay then refers to the folder of the package root."""
    (root / "usr/lib/x").rename(root / "usr/lib/renamed")


def remove_unusual(root: Path) -> None:
    """mksquashfs has no pattern for such a name."""
    os.unlink(os.fsencode(root) + b"/home/u/n\xff\xfe\x80ame\nline")  # noqa: PTH108  (the name is not text)


FULL = {
    rename_folder: "the overlay has the attribute trusted.overlay.redirect",
    remove_unusual: "a file with an unusual name was removed or replaced",
}


def test_setting(jobs: Jobs, configure: Callable[..., None]) -> None:
    """Without it, the rootfs is packed in full."""
    configure(squashfs_splice_builds=False)
    assert jobs.cold(change_one).rootfs == jobs.full()
    assert jobs.kept(".base") == []


@pytest.mark.parametrize(("change", "reason"), FULL.items())
def test_packed_in_full(jobs: Jobs, change: Change, reason: str) -> None:
    """The log says why, and the bytes are those of full packing."""
    for packed in (jobs.cold(change), jobs.warm(change)):
        assert reason in packed.log
        assert packed.rootfs == jobs.full()


ODD = ["*", "a*b", "[x]", "?", "!(a)", "+(b)", "@(c)", "{d,e}", " f ", "#g", "-h", "~i", "a\\b", "j k", "'\"$l"]


def test_patterns_match_the_names_alone(tmp_path: Path) -> None:
    """Characters with a meaning in patterns have none."""
    for place in ("", "folder", "folder/sub"):
        (tmp_path / "root" / place).mkdir()
        for name in (*ODD, "a", "ab", "axb", "b", "c", "d", "x", "f", "g", "h"):
            (tmp_path / "root" / place / name).write_text(name)
    removed = [f"{place}{name}" for place in ("", "folder/sub/") for name in ODD]
    write_patterns([name.encode() for name in removed], tmp_path / "patterns")
    make_rootfs(tmp_path / "root", tmp_path / "rootfs", exclude=tmp_path / "patterns")
    expected = {path.relative_to(tmp_path / "root") for path in (tmp_path / "root").rglob("*")} - set(
        map(Path, removed)
    )
    try:
        with mounted(tmp_path / "rootfs", tmp_path / "mounted") as root:
            assert {path.relative_to(root) for path in root.rglob("*")} == expected
    finally:
        unmount(tmp_path)
    with pytest.raises(SpliceError, match="unusual name"):
        write_patterns([b"a\nb"], tmp_path / "patterns")
