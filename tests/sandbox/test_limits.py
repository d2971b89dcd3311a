"""How much of the machine a box may use."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ims.sandbox import box, limits
from ims.sandbox.limits import Controllers, Limits, control_groups, controllers
from ims.sandbox.view import View, program_folders

# Each user of the box starts ten processes, and stops at the first error.
FORK_BOMB = """
import os, time
count = 0
for user in range(50):
    for _ in range(10):
        try:
            pid = os.fork()
        except OSError as error:
            print(count, error.strerror, flush=True)
            raise SystemExit
        if pid == 0:
            os.setuid(user)
            time.sleep(60)
        count += 1
"""


def run(folder: Path, program: str, maximum: Limits) -> subprocess.CompletedProcess[str]:
    """Run a Python program in a box with limits."""
    view = View((folder,), program_folders(), limits=maximum)
    command = box.command(view, [sys.executable, "-c", program])
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.system
def test_fork_bomb(tmp_path: Path) -> None:
    """All users of the box together have no more processes than the limit, with or without control groups."""
    done = run(tmp_path, FORK_BOMB, Limits(processes=100))
    count, reason = done.stdout.strip().split(" ", 1)
    assert 90 < int(count) < 100
    assert reason == "Resource temporarily unavailable"


@pytest.mark.system
@pytest.mark.skipif("memory" not in controllers().names, reason="no control group limits memory on this machine")
def test_memory(tmp_path: Path) -> None:
    """A program that takes more memory is killed. Nothing of its control group remains."""
    program = "print(open('/proc/self/cgroup').read(), flush=True); print(len(bytearray(1 << 30)))"
    done = run(tmp_path, program, Limits(memory=200 * 1024**2))
    groups = set(re.findall(r"ims-box-[0-9a-f]+", done.stdout))
    assert done.returncode == -9
    assert len(groups) == 1
    assert not [path for path in limits.CONTROL_GROUPS.rglob("ims-box-*") if path.name in groups]


@pytest.mark.system
def test_files_and_core_dumps(tmp_path: Path) -> None:
    """A box cannot raise its limits."""
    program = (
        "import resource as r; print(r.getrlimit(r.RLIMIT_CORE), r.getrlimit(r.RLIMIT_NOFILE)[1] <= 65536)\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (99999, 99999))"
    )
    done = run(tmp_path, program, Limits())
    assert done.stdout == "(0, 0) True\n"
    assert "not allowed to raise maximum limit" in done.stderr


def test_second_version(tmp_path: Path) -> None:
    """The group is made where the controllers are, with both limits, and removed with those of killed boxes."""
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids\n")
    for name in ("ims-box-1", "ims-box-2"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / "ims-box-1", (0, 0))
    with control_groups(Limits(7, 8), tmp_path) as (processes,):
        group = processes.parent
        assert (group / "pids.max").read_text() == "7"
        assert (group / "memory.max").read_text() == "8"
        assert not (tmp_path / "ims-box-1").exists()
        assert (tmp_path / "ims-box-2").exists(), "another box is about to use it"
        for name in ("pids.max", "memory.max"):
            (group / name).unlink()
    assert not group.exists()


def test_without_control_groups(tmp_path: Path) -> None:
    """There is no group to join."""
    assert controllers(tmp_path) == Controllers()
    with control_groups(Limits(), tmp_path) as groups:
        assert groups == []
