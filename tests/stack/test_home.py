"""The home of an installation, as the stack prepares it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ims.settings import Settings, settings
from ims.stack import lifecycle, postgres

PREPARE = """
import os, sys
from pathlib import Path
from ims.settings import Settings
from ims.stack import lifecycle
os.umask(int(sys.argv[2], 8))
lifecycle.prepare_home(Settings(home=Path(sys.argv[1])))
"""


OPEN = """
import os, sys
for path in sys.stdin.read().splitlines():
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError:
        continue
    print(path)
"""
PRIVATE = {
    **dict.fromkeys(("airflow", "cache", "logs", "run", "s3", "secrets", "workspaces"), 448),
    ".": 0o710,
    "ims.db": 0o600,
}
PASSED = {"postgres", "site-root-ca.pem"}
"""What is open to PostgreSQL's user, who may pass through the home."""


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
    assert modes(home) == PRIVATE
    assert (home / "postgres" / "data").stat().st_mode & 0o077 == 0
    assert readable(home, "ordinary") == []
    # PostgreSQL's own data and its programs.
    assert {Path(path).relative_to(home).parts[0] for path in readable(home, postgres.USER)} <= PASSED


@pytest.mark.system
def test_open_home_is_closed() -> None:
    """An installation of an older version was open to the users of the machine; `make up` corrects it."""
    home = settings().home / "older"
    for name in PRIVATE:
        (home / name).mkdir(parents=True) if "." not in name else (home / name).touch()
    (home / "ims.db-wal").touch()
    planted = home / "workspaces" / "job" / "image-root" / "program"
    planted.parent.mkdir(parents=True)
    shutil.copyfile("/bin/cat", planted)
    planted.chmod(0o4755)
    for path in (home, *home.rglob("*")):
        path.chmod(path.stat().st_mode | 0o755)
    assert str(planted) in readable(home, postgres.USER)
    lifecycle.close_home(Settings(home=home))
    assert modes(home) == {**PRIVATE, "ims.db-wal": 0o600}
    assert readable(home, "ordinary") == readable(home, postgres.USER) == []


def modes(home: Path) -> dict[str, int]:
    """The permissions of the state, except what PostgreSQL and images need."""
    found = {".": home.stat().st_mode & 0o7777}
    return found | {p.name: p.stat().st_mode & 0o7777 for p in home.iterdir() if p.name not in PASSED}


def readable(home: Path, user: str) -> list[str]:
    """The files of a home that a user can open, whose paths are known: `nobody`, or one without any rights."""
    files = [str(path) for path in (home, *home.rglob("*")) if not path.is_symlink()]
    own = pwd.getpwnam(user) if user != "ordinary" else None
    identity = (own.pw_uid, own.pw_gid) if own else (4321, 4321)
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-c", OPEN],
        input="\n".join(files),
        user=identity[0],
        group=identity[1],
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_env_without_a_stack(tmp_path: Path) -> None:
    """`make env` before `make up` fails with one line."""
    environment = {**os.environ, "IMS_HOME": str(tmp_path), "IMS_PORT": "1"}
    command = [sys.executable, "-m", "ims.stack", "env"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 69
    assert "make up" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
