"""What the box of a step can do to the workspace of its job."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ims.sandbox import box
from ims.sandbox.overlay import LOWER, UPPER, Layers
from ims.sandbox.view import program_folders
from ims.steps.views import view_of
from ims.workspace import Workspace

pytestmark = pytest.mark.system


def test_folders_of_an_overlay_cannot_be_replaced(tmp_path: Path, configure: Callable[..., None]) -> None:
    """The folder below an image root is kept for other jobs while programs of the recipe run in the workspace."""
    ca = tmp_path / "ca.pem"
    ca.touch()
    configure(home=tmp_path / "home", ca_certificate=ca)
    workspace = Workspace(tmp_path / "workspace")
    workspace.package_root.mkdir(parents=True)
    (workspace.package_root / "file").write_text("good")
    changes = workspace.image_root_changes
    view = view_of(workspace, image=Layers(workspace.package_root, changes, workspace.image_root, redirect=True))
    script = f"""
        cd {workspace.root}
        umount -l {changes.name}; mount -o remount,rw {changes.name}; rm -rf {changes.name}/*
        mv {changes.name} other && mkdir -p {changes.name}/{LOWER} && echo evil > {changes.name}/{LOWER}/file
        for name in {LOWER} {UPPER} new; do echo evil > {changes.name}/$name/file; mkdir {changes.name}/$name; done
        echo new > {workspace.image_root.name}/file
    """
    whole = replace(view, readable=(*view.readable, *program_folders()))
    done = subprocess.run(
        box.command(whole, ["bash", "-c", script]), cwd=workspace.root, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in changes.iterdir()} == {LOWER, UPPER, "work"}
    assert list((changes / LOWER).iterdir()) == []
    assert (changes / UPPER / "file").read_text() == "new\n"
    assert not (workspace.root / "other").exists()
    assert (workspace.package_root / "file").read_text() == "good"
