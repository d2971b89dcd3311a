"""The first process in the namespaces of a local step: it hides the state of the installation, then runs the step.

The scripts of a recipe run as root in the image root and could leave it. Outside they find no credentials, no database,
no S3 data and no workspace of another job.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ims.sandbox.overlay import mount
from ims.settings import Settings, settings
from ims.steps.__main__ import main

HIDDEN = ("airflow", "logs", "postgres", "run", "s3", "secrets")


def hide(own: Settings, workspace: Path) -> None:
    """Cover the state of the installation, except the workspace of this job and the caches."""
    kept = os.open(workspace, os.O_PATH)
    for folder in (*(own.home / name for name in HIDDEN), own.workspaces):
        if folder.is_dir():
            mount("-t", "tmpfs", "-o", "mode=0700,size=1m", "tmpfs", folder)
    workspace.mkdir()
    # The descriptor still refers to the folder below the cover. Without -c, mount would resolve its path again.
    mount("-c", "--bind", f"/proc/{os.getpid()}/fd/{kept}", workspace)
    os.close(kept)
    os.chdir(workspace)
    for database in own.home.glob("*.db*"):
        mount("--bind", "/dev/null", database)


def run(arguments: list[str] | None = None) -> int:
    """Run the step that the arguments name, by default those of the command line; returns its exit code."""
    hide(settings(), Path.cwd())
    return main(arguments)


if __name__ == "__main__":
    sys.exit(run())
