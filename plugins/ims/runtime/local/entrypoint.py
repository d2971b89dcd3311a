"""The first process in a local step's namespaces: hides what the step has no business with, then runs it.

A recipe's scripts run as root in the image root and could climb out of it. Here they find no credentials, no database,
no S3 data and no other job's workspace.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ims.settings import Settings, settings
from ims.steps.__main__ import main

HIDDEN = ("airflow", "logs", "postgres", "run", "s3", "secrets")


def hide(own: Settings, workspace: Path) -> None:
    """Cover the state of the installation, except this job's workspace and the caches."""
    kept = os.open(workspace, os.O_PATH)
    for folder in (*(own.home / name for name in HIDDEN), own.workspaces):
        if folder.is_dir():
            _mount("-t", "tmpfs", "-o", "mode=0700,size=1m", "tmpfs", folder)
    workspace.mkdir()
    # The descriptor still leads below the cover; without -c mount would look its path up again.
    _mount("-c", "--bind", f"/proc/{os.getpid()}/fd/{kept}", workspace)
    os.close(kept)
    os.chdir(workspace)
    for database in own.home.glob("*.db*"):
        _mount("--bind", "/dev/null", database)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    hide(settings(), Path.cwd())
    sys.exit(main())
