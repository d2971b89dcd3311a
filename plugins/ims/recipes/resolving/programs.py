"""Runs the programs that resolve package requests."""

from __future__ import annotations

import re
import resource
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ims.network.process import inherited_proxy
from ims.recipes.package_request import MissingPackagesError, UnknownPackagesError

PROGRAM_TIMEOUT_SECONDS = 300
MAX_MESSAGE = 2000
"""Characters. Whoever knows the secrets in a message hides them and shortens it."""
MEMORY = 4 * 1024**3
"""Bytes of address space of a program: an index can unpack to much more than it has."""
MAX_FILE = 2 * 1024**3
"""Bytes of a file that a program writes."""


def run(command: Sequence[str], folder: Path, data: str = "", *, missing: re.Pattern[str] | None = None) -> str:
    """Run a program with `data` as its input and `folder` as its working directory and home; returns its output.

    Raises UnknownPackagesError with the program's message if it fails, and MissingPackagesError if all its errors are
    of the pattern `missing`, whose group is the name of a package.
    """
    # Nothing listens on loopback in the sandbox: the proxy refuses it with a reason.
    proxies = {**inherited_proxy(), "no_proxy": "", "NO_PROXY": ""}
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder), "LANG": "C.UTF-8", **proxies}
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
            preexec_fn=_limit_resources,
        )
    except FileNotFoundError:
        raise UnknownPackagesError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise UnknownPackagesError(f"{command[0]} took more than {PROGRAM_TIMEOUT_SECONDS} s") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it printed no error"]
        errors = [line for line in lines if line.startswith("E: ")]
        names = [match[1] for line in errors if missing is not None and (match := missing.fullmatch(line))]
        if names and len(names) == len(errors):
            raise MissingPackagesError(names)
        message = next((line for line in lines if line.startswith("E: ")), lines[-1])
        raise UnknownPackagesError(message.removeprefix("E: ")[:MAX_MESSAGE])
    return done.stdout


def _limit_resources() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE, MAX_FILE))
