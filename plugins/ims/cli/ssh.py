"""Log in to the shell of a job with ssh. The job's record has the fingerprint of the host key."""

from __future__ import annotations

import base64
import hashlib
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from ims.errors import ConfigurationError, PermanentError, UnavailableError

_ANY = ("0.0.0.0", "::")  # noqa: S104
NOT_CONNECTED = 255
"""Exit code of ssh if it could not log in."""


def run(job: dict[str, Any], service: str, key: Path | None, command: Sequence[str]) -> int:
    """Run ssh to the shell of a job; returns its exit code, which is that of the command that ran there.

    Raises UnavailableError if the shell cannot be reached, and PermanentError if its host key is not that of the job.
    """
    shell = job["ssh_containers"][0]
    address = shell["connection_info"]["customer_access"]
    host = str(urlsplit(service).hostname if address["host"] in _ANY else address["host"])
    with TemporaryDirectory() as folder:
        known_hosts = Path(folder) / "known_hosts"
        known_hosts.write_text(f"{job['id']} {host_key(host, address['port'], shell['fingerprint'])}\n")
        options = {
            "HostKeyAlias": job["id"],
            "UserKnownHostsFile": known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
        }
        identity = ["-i", str(key), "-o", "IdentitiesOnly=yes"] if key is not None else []
        pinned = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        target = ["-p", str(address["port"]), "-l", "root", *identity, *pinned, "--", host]
        return _foreground(["ssh", *target, *command])


def host_key(host: str, port: int, fingerprint: str) -> str:
    """Return the host key with this fingerprint, in the format of known_hosts.

    Raises UnavailableError if nothing answers, and PermanentError if the server that answers has other keys.
    """
    try:
        done = subprocess.run(
            ["ssh-keyscan", "-T", "10", "-p", str(port), "--", host], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ConfigurationError("ssh-keyscan is not installed", "Install openssh-client") from None
    keys = [line.split(" ", 1)[1] for line in done.stdout.splitlines() if line and not line.startswith("#")]
    if not keys:
        raise UnavailableError(
            f"no ssh server answers on {host} port {port}", "Try again from a machine that can reach it"
        )
    for key in keys:
        if fingerprint_of(key) == fingerprint:
            return key
    raise PermanentError(
        f"the server on {host} port {port} is not the shell of this job: none of its host keys is {fingerprint}",
        "Do not log in there, and report it to your network administrator",
    )


def fingerprint_of(key: str) -> str:
    """Return the SHA-256 fingerprint of a key `<type> <base64>`, as ssh-keygen prints it."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _foreground(command: Sequence[str]) -> int:
    """Run a program in the foreground of the terminal and leave Ctrl-C to it."""
    before = signal.signal(signal.SIGINT, lambda *_: None)  # The program would inherit SIG_IGN.
    try:
        return subprocess.run(command, check=False).returncode
    except FileNotFoundError:
        raise ConfigurationError("ssh is not installed", "Install openssh-client") from None
    finally:
        signal.signal(signal.SIGINT, before)
