"""Runs the programs that resolve package requests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ims.recipes.package_request import UnknownPackagesError

PROGRAM_TIMEOUT_SECONDS = 300
_INHERITED = ("http_proxy", "https_proxy", "no_proxy")


def run(command: Sequence[str], folder: Path, data: str = "") -> str:
    """Run a program with `data` as its input and `folder` as its working directory and home; returns its output.

    Raises UnknownPackagesError with the program's message if it fails.
    """
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder), "LANG": "C.UTF-8"}
    environment |= {name: os.environ[name] for name in _INHERITED if name in os.environ}
    try:
        done = subprocess.run(
            command,
            input=data,
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=PROGRAM_TIMEOUT_SECONDS,
        )
    except FileNotFoundError:
        raise UnknownPackagesError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise UnknownPackagesError(f"{command[0]} took more than {PROGRAM_TIMEOUT_SECONDS} s") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it printed no error"]
        message = next((line for line in lines if line.startswith("E: ")), lines[-1])
        raise UnknownPackagesError(message.removeprefix("E: ")[:300])
    return done.stdout
