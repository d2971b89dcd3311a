"""A job's shell through the real ssh, whose host key is known by what the job says of it."""

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

from ims.errors import ConfigurationError, ImsError, UnavailableError

_ANY = ("0.0.0.0", "::")  # noqa: S104
NOT_CONNECTED = 255


def run(job: dict[str, Any], service: str, key: Path | None, command: Sequence[str]) -> int:
    """Run ssh in the shell of a job; returns its exit code, which is that of what ran there.

    Raises UnavailableError: the shell cannot be reached; ImsError: it is not the job's.
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
    """The host key that has the fingerprint, as known_hosts has it.

    Raises UnavailableError: nothing answers; ImsError: who answers has other keys.
    """
    try:
        done = subprocess.run(
            ["ssh-keyscan", "-T", "10", "-p", str(port), "--", host], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ConfigurationError("there is no ssh-keyscan", "Install openssh-client") from None
    keys = [line.split(" ", 1)[1] for line in done.stdout.splitlines() if line and not line.startswith("#")]
    if not keys:
        raise UnavailableError(
            f"no ssh server answers on {host} port {port}", "Try from a machine that reaches it, or look at the job"
        )
    for key in keys:
        if fingerprint_of(key) == fingerprint:
            return key
    raise ImsError(
        f"who answers on {host} port {port} is not the shell of this job: no host key of it is {fingerprint}",
        "Do not log in there; tell whoever runs the network",
    )


def fingerprint_of(key: str) -> str:
    """The SHA-256 fingerprint of `<type> <base64>`, as ssh-keygen prints it."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _foreground(command: Sequence[str]) -> int:
    """Run a program that has the terminal; Ctrl-C is for it."""
    before = signal.signal(signal.SIGINT, lambda *_: None)  # not SIG_IGN, which the program would inherit
    try:
        return subprocess.run(command, check=False).returncode
    except FileNotFoundError:
        raise ConfigurationError("there is no ssh", "Install openssh-client") from None
    finally:
        signal.signal(signal.SIGINT, before)
