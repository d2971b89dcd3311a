"""The programs that resolve."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ims.recipes.wanted import UnknownPackagesError

SECONDS = 300
_INHERITED = ("http_proxy", "https_proxy", "no_proxy")


def run(command: Sequence[str], folder: Path, data: str = "") -> str:
    """Run a program in `folder`, which is its home, with `data` as its input; returns what it printed.

    Raises UnknownPackagesError: what it complained of.
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
            timeout=SECONDS,
        )
    except FileNotFoundError:
        raise UnknownPackagesError(f"there is no {command[0]} here") from None
    except subprocess.TimeoutExpired:
        raise UnknownPackagesError(f"{command[0]} took more than {SECONDS} s") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        told = next((line for line in lines if line.startswith("E: ")), lines[-1])
        raise UnknownPackagesError(told.removeprefix("E: ")[:300])
    return done.stdout
