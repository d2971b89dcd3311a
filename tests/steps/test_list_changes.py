"""Recording the changes of a customization as a script. See also tests/flows."""

from __future__ import annotations

import logging
import tarfile
from pathlib import Path

import pytest

from ims.errors import InputError
from ims.images.changes import Difference
from ims.steps import list_changes
from ims.steps.list_changes import record_script
from ims.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with an image to which a file was added, and a link that a program of the image left."""
    workspace = Workspace(tmp_path / "job")
    for root in (workspace.base, workspace.image_root):
        (root / "etc").mkdir(parents=True)
    (workspace.image_root / "etc/new").write_text("new\n")
    (tmp_path / "outside").write_text("outside\n")
    workspace.capture.symlink_to(tmp_path / "outside")
    return workspace


def test_script_is_recorded(workspace: Workspace) -> None:
    """The archive has the script and the file. A link in its place is replaced."""
    record_script(Difference(files_added=["/etc/new"]), workspace)
    with tarfile.open(workspace.capture) as tar:
        assert tar.getnames() == ["customize.sh", "site.yml", "NOT-CAPTURED.txt", "root/etc/new"]
    assert (workspace.root.parent / "outside").read_text() == "outside\n"


def test_changes_survive_a_failure(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the script cannot be written, the job continues without it, and the log says why."""

    def fail(*_arguments: object) -> None:
        workspace.capture.write_text("half")
        raise InputError("it is damaged")

    monkeypatch.setattr(list_changes, "write_archive", fail)
    with caplog.at_level(logging.WARNING):
        record_script(Difference(files_added=["/etc/new"]), workspace)
    assert not workspace.capture.exists()
    assert "not recorded as a script: it is damaged" in caplog.text
