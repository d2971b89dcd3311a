"""Running the programs that tests need."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path


def quietly(command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program; returns its standard output. Raises RuntimeError with the end of its output if it fails."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-4000:]
        raise RuntimeError(f"{' '.join(map(str, command[:3]))} … ended with {done.returncode}: {said}")
    return done.stdout


def command_of(process: Path) -> bytes:
    """The command line of a process, given as its folder in /proc; empty if it has ended meanwhile."""
    with suppress(OSError):
        return (process / "cmdline").read_bytes()
    return b""


def running_commands() -> list[bytes]:
    """The command lines of all processes of this machine."""
    return [command_of(process) for process in Path("/proc").glob("[0-9]*")]


def allowed_networks() -> str:
    """The value of IMS_ALLOWED_NETWORKS with which jobs reach the repositories that tests serve on this machine."""
    return f"127.0.0.0/8,{os.environ.get('IMS_HOST', '127.0.0.1')}/32"


def remove_foreign_variables() -> None:
    """Remove variables from the environment that would point tests at another S3 or another Airflow."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "AIRFLOW_"))]:
        del os.environ[name]
