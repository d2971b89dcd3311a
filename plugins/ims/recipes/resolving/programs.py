"""Runs the programs that resolve package requests."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ims.masking import masked
from ims.network.process import local_proxy
from ims.network.site import service_policy
from ims.recipes.package_request import UnknownPackagesError

PROGRAM_TIMEOUT_SECONDS = 300


def run_online(command: Sequence[str], folder: Path, data: str = "") -> str:
    """Like `run`, for a program that reads repositories: it reaches them through a proxy that checks their addresses.

    Repositories send their clients to other hosts, so any host may be reached whose address is not refused.
    """
    with local_proxy(service_policy()) as variables:
        return run(command, folder, data, variables)


def run(command: Sequence[str], folder: Path, data: str = "", variables: Mapping[str, str] | None = None) -> str:
    """Run a program with `data` as its input and `folder` as its working directory and home; returns its output.

    `variables` are added to its environment. Raises UnknownPackagesError with the program's message if it fails.
    """
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder), "LANG": "C.UTF-8", **(variables or {})}
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
        raise UnknownPackagesError(masked(message.removeprefix("E: "))[:300])
    return done.stdout
