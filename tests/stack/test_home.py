"""The home of an installation, as the stack prepares it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ims.settings import settings

PREPARE = """
import os, sys
from pathlib import Path
from ims.settings import Settings
from ims.stack import lifecycle
os.umask(int(sys.argv[2], 8))
lifecycle.prepare_home(Settings(home=Path(sys.argv[1])))
"""


@pytest.mark.system
@pytest.mark.parametrize("umask", ["022", "077"])
def test_home_is_prepared_with_any_umask(umask: str) -> None:
    """PostgreSQL's user can reach its programs and its data even if the umask of the administrator is strict."""
    home = settings().home / f"prepared-{umask}"
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, str(home), umask], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (home / "postgres" / "data" / "PG_VERSION").exists()
    closed = {path.name for path in home.iterdir() if path.is_dir() and path.stat().st_mode & 0o077 == 0}
    assert closed >= {"s3", "secrets"}
    assert (home / "postgres" / "data").stat().st_mode & 0o077 == 0


def test_env_without_a_stack(tmp_path: Path) -> None:
    """`make env` before `make up` fails with one line."""
    environment = {**os.environ, "IMS_HOME": str(tmp_path), "IMS_PORT": "1"}
    command = [sys.executable, "-m", "ims.stack", "env"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 69
    assert "make up" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
