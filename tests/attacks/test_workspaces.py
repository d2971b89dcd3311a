"""Attacks on the folders of a job by root of its sandbox: steps, and sandboxes made later, use these folders again."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from ims.errors import ImsError
from ims.sandbox import box
from ims.sandbox.view import View, program_folders
from ims.steps import build_image
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
