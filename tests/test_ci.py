"""`.ci/run` leaves out the cluster only on a machine that cannot have one, and never silently."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OUTPUT = "NOT TESTED: the workflows on a cluster. "


def write_script(path: Path, *lines: str) -> None:
    """Write a script that others can run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *lines)))
    path.chmod(0o755)


def run_ci(checkout: Path, *, packages: int = 0, build: int = 0, tests: int = 0, node: int = 0) -> tuple[int, str]:
    """Run `.ci/run` with programs that only end with these exit codes; returns its exit code and its output."""
    (checkout / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", checkout / ".ci" / "run")
    write_script(checkout / "scripts" / "setup", f'[ "$*" != "--test --ceph --kubernetes" ] || exit {packages}')
    write_script(checkout / ".venv" / "bin" / "python", f'case "$3" in build) exit {build} ;; run) exit {node} ;; esac')
    write_script(checkout / "bin" / "make", f"exit {tests}")
    environment = os.environ | {"PATH": f"{checkout / 'bin'}:{os.environ['PATH']}"}
    command = ["bash", str(checkout / ".ci" / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_success(tmp_path: Path) -> None:
    """If everything succeeds, nothing is left out."""
    assert run_ci(tmp_path) == (0, "")


@pytest.mark.parametrize("unavailable", ["packages", "build", "node"])
def test_unavailable(tmp_path: Path, unavailable: str) -> None:
    """If packages, sources or features of the kernel are missing, the last line says that the cluster is not tested."""
    code, output = run_ci(tmp_path, **{unavailable: os.EX_UNAVAILABLE})
    assert code == 0
    assert output.splitlines()[-1].startswith(OUTPUT)


@pytest.mark.parametrize("failing", ["packages", "build", "tests", "node"])
@pytest.mark.parametrize("code", [1, 2, 78])
def test_failure(tmp_path: Path, failing: str, code: int) -> None:
    """Every other error is a failure."""
    assert run_ci(tmp_path, **{failing: code}) == (code, "")


def test_failure_on_a_machine_without_a_cluster(tmp_path: Path) -> None:
    """If the other tests fail, a machine that cannot have a cluster is no excuse."""
    assert run_ci(tmp_path, packages=os.EX_UNAVAILABLE, tests=2) == (2, "")
