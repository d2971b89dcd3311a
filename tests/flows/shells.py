"""Opens shells of jobs and logs in to them with the real ssh client."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.service import Service

OPTIONS = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "LogLevel=ERROR")


@dataclass(frozen=True)
class Key:
    """A key pair whose public key is registered."""

    private: Path
    identity: str


def make_key(service: Service, folder: Path) -> Key:
    """Create and register a key pair."""
    private = folder / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", private], check=True)
    text = private.with_suffix(".pub").read_text()
    return Key(private, service.client.create("public-keys", name="user", public_key=text)["id"])


def start(service: Service, image: dict[str, Any], key: Key, *, jail: bool, **fields: Any) -> dict[str, Any]:
    """Start a customize job with a shell; returns the job."""
    job: dict[str, Any] = service.client.create(
        "jobs",
        job_type="customize",
        artifact_id=image["id"],
        public_key_id=key.identity,
        image_root_archive_name=f"customized-{uuid4().hex[:8]}",
        ssh_containers=[{"name": "customize", "jail": jail}],
        **fields,
    )
    return job


def customize(service: Service, image: dict[str, Any], key: Key, *, jail: bool, **fields: Any) -> dict[str, Any]:
    """Start a job and wait until its shell is open; returns the job."""
    job = start(service, image, key, jail=jail, **fields)
    return service.wait(job["id"], until=("waiting_on_user", "error"))


def address(job: dict[str, Any]) -> tuple[str, int]:
    """Return the address of the shell of a job for programs."""
    found = job["ssh_containers"][0]["connection_info"]["cluster.local"]
    return str(found["host"]), int(found["port"])


def options(job: dict[str, Any], key: Key) -> list[str]:
    """Return the options with which ssh, scp and rsync reach the shell of a job."""
    port = ("-o", f"Port={address(job)[1]}")
    return ["-F", "none", "-i", str(key.private), *port, *(part for option in OPTIONS for part in ("-o", option))]


def try_ssh(job: dict[str, Any], key: Key, command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command in the shell of a job; returns how it ended."""
    line = ["ssh", *options(job, key), f"root@{address(job)[0]}", command]
    return subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=timeout)


def ssh(job: dict[str, Any], key: Key, command: str, timeout: float = 60) -> str:
    """Run a command that must succeed in the shell of a job; returns its output."""
    done = try_ssh(job, key, command, timeout)
    assert done.returncode == 0, f"ssh ended with {done.returncode}: {done.stderr}"
    return done.stdout
