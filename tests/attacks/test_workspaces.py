"""Attacks on the folders of a job by root of its sandbox: steps, and sandboxes made later, use these folders again."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from ims.errors import ImsError, PermanentError, UnavailableError
from ims.sandbox import box
from ims.sandbox.view import View, program_folders
from ims.steps import build_image, locks, upload_artifacts
from ims.steps.__main__ import run as run_step
from ims.steps.artifacts import Batch, PackedArtifact
from ims.steps.step import load_step
from ims.storage import manifest
from ims.storage.objects import ObjectStore
from ims.workspace import Workspace

pytestmark = pytest.mark.system

SECRET = "a secret of the host"
# Without a mount on it in the mount namespace of the program, a folder can be renamed.
RENAME = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
folder = os.open(".", os.O_RDONLY)
libc.unshare(0x20000)
os.mkdir("/tmp/new")
libc.mount(b"none", b"/tmp/new", b"tmpfs", 0, None)
os.chdir("/tmp/new")
print("pivot_root", libc.syscall({pivot_root}, b".", b"."))
print("umount", libc.umount2(b".", 2), libc.umount2(b"/", 2))
for name in sys.argv[1:]:
    try:
        os.rename(name, "taken", src_dir_fd=folder, dst_dir_fd=folder)
        print("renamed", name)
        os.symlink("../secret", name, dir_fd=folder)
        os.rename("taken", name + ".taken", src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        print(name, error)
"""
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the host next to the workspace."""
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The folder that a box can write to, with three others in it."""
    path = tmp_path / "workspace"
    for name in ("cache", "notes", "run"):
        (path / name).mkdir(parents=True)
        (path / name / "file").write_text(name)
    return path


def test_mounted_folders_cannot_be_replaced(workspace: Path) -> None:
    """Root of a box cannot leave its mounts behind, by which it could put others in the place of their folders."""
    view = View((workspace, workspace / "cache"), (workspace / "notes", *program_folders()), (workspace / "run",))
    program = RENAME.format(pivot_root=PIVOT_ROOT[platform.machine()])
    code, output = _run(view, workspace, sys.executable, "-c", program, "cache", "notes", "run")
    assert code == 0, output
    assert "renamed" not in output
    assert sorted(path.name for path in workspace.iterdir()) == ["cache", "notes", "run"]
    assert not any(path.is_symlink() for path in workspace.iterdir())


@pytest.mark.parametrize("kind", ["writable", "readable"])
def test_link_does_not_become_a_part_of_a_box(workspace: Path, secret: Path, kind: str) -> None:
    """A program of an earlier box made a link to a file of the host where the next box has a folder."""
    link = workspace / "planted"
    link.symlink_to(secret)
    view = View((workspace, link)) if kind == "writable" else View((workspace,), (link,))
    code, output = _run(view, workspace, "bash", "-c", f"cat {link}; echo attacked > {link}")
    assert code != 0
    assert "is a link" in output
    assert SECRET not in output
    assert secret.read_text() == SECRET


def test_second_try_of_a_build_starts_without_files_of_the_first(tmp_path: Path) -> None:
    """Package managers read files in their home folder, and other recipes use the package root that they make."""
    workspace = Workspace(tmp_path / "job")
    planted = [workspace.kiwi_home / ".rpmmacros", workspace.kiwi_home / ".dpkg.cfg", workspace.kiwi_temporary / "x"]
    planted += [workspace.package_cache / "x.deb", workspace.replaced_files / "hosts", workspace.image_root / "x"]
    planted += [workspace.kiwi_config, workspace.packed_root]
    for path in planted:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("%(touch /tmp/attacked)")
    workspace.recipe.mkdir()  # without a description: the build ends early
    work = build_image.Input(
        workspace=workspace, lineage="attacked", package_manager="zypper", ca_package=tmp_path / "ca.rpm"
    )
    with pytest.raises(ImsError):
        build_image.run(work)
    assert [path for path in planted if path.exists()] == []


def test_earlier_step_beside_a_running_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user starts the task of a step again, whose files the programs of the running step could replace by links."""
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.2)
    workspace = Workspace(tmp_path)
    data = json.dumps({"workspace": str(tmp_path), "package_manager": "apt"})
    with locks.locked(workspace, shared=False), pytest.raises(UnavailableError, match="another step"):
        run_step(load_step("build_ca_package"), data)
    assert not workspace.ca_package.exists()
    data = json.dumps({"workspace": str(tmp_path), "recipe_id": "r", "path": "s3://ims/recipe.tar.gz"})
    with locks.locked(workspace, shared=True), pytest.raises(UnavailableError, match="another step"):
        run_step(load_step("fetch_recipe"), data)


def test_parallel_steps(tmp_path: Path) -> None:
    """Steps that run no program of the job do not wait for each other."""
    workspace = Workspace(tmp_path)
    with locks.locked(workspace, shared=True), locks.locked(workspace, shared=True):
        pass


def test_upload_of_a_link(workspace: Path, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second try of a build replaced an artifact of the first, whose upload was started again: nothing is sent."""
    monkeypatch.setattr(ObjectStore, "from_environment", lambda: pytest.fail("it asks S3"))
    rootfs = workspace / "rootfs"
    rootfs.symlink_to(secret)
    packed = PackedArtifact(name="rootfs", type=manifest.ROOTFS, path=rootfs, size=1, md5="0" * 32, sha256="0" * 64)
    step = upload_artifacts.Input(
        workspace=workspace, image_id="i", image_name="n", job_id="j", each=Batch(artifacts=[packed])
    )
    with pytest.raises(PermanentError, match="not a plain file"):
        upload_artifacts.run(step)


def _run(view: View, folder: Path, *program: str) -> tuple[int, str]:
    done = subprocess.run(
        box.command(view, program),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout
