"""The layout of a workspace."""

from __future__ import annotations

from pathlib import Path

from ims.sandbox.overlay import UPPER
from ims.workspace import Workspace

WORKSPACE = Workspace(Path("/workspaces/a-job"))
PATHS = {
    name: getattr(WORKSPACE, name)
    for name, entry in vars(Workspace).items()
    if isinstance(entry, property) and name != "job_id"
}


def test_paths_are_inside_and_distinct() -> None:
    """No two properties have the same path, and no path is outside the workspace."""
    assert len(set(PATHS.values())) == len(PATHS) > 30
    assert all(path.is_relative_to(WORKSPACE.root) and path != WORKSPACE.root for path in PATHS.values())


def test_job() -> None:
    """The folder is named after its job."""
    assert WORKSPACE.job_id == "a-job"


def test_changed_files_are_the_upper_folder_of_the_overlay() -> None:
    """The overlay and the layout agree on the name."""
    assert WORKSPACE.changed_files == WORKSPACE.changes / UPPER


def test_markers() -> None:
    """Jailed users create markers in /tmp of the image, the others next to the image root."""
    assert WORKSPACE.markers(jail=True) == WORKSPACE.changed_files / "tmp"
    assert WORKSPACE.markers(jail=False) == WORKSPACE.unjailed


def test_run_files_and_claims(tmp_path: Path) -> None:
    """Process IDs and claims can be listed."""
    workspace = Workspace(tmp_path)
    workspace.run.mkdir()
    workspace.notes.mkdir()
    for path in (workspace.pid_file("step-0"), workspace.result("step-0"), workspace.claim("roots")):
        path.touch()
    assert list(workspace.pid_files()) == [workspace.pid_file("step-0")]
    assert list(workspace.claims()) == [workspace.claim("roots")]
