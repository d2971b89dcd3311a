"""Shells of jobs on this machine, as services of the stack."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ims.errors import ImsError, MissingError
from ims.runtime import services
from ims.settings import settings
from ims.shell import sshd
from ims.steps.serve_shell import marked
from ims.steps.step import load_step

STEP = "serve_shell"
START_SECONDS = 60


class LocalShells:
    """Each listens on a port of its own."""

    def open(self, data: dict[str, Any], arch: str | None) -> dict[str, Any]:
        """Serve a shell until it is closed; see `ims.runtime.choice`."""
        workspace = Path(data["workspace"])
        if data["rootfs"] is None and not (workspace / "image-root").is_dir():
            raise MissingError("there is no image root to look at")
        address = {"host": settings().host, "port": _port(workspace)}
        if (workspace / "shell.json").exists():
            # Of a try that was cut short before anybody was told; it would not say again where it is.
            services.stop(STEP, workspace.name)
        for left in (workspace / "shell.json", _result(workspace)):
            left.unlink(missing_ok=True)
        services.start(load_step(STEP), {**data, **address})
        return wait_until_open(workspace)

    def close(self, job_id: str) -> None:
        """End the shell and everything that was started in it."""
        services.stop(STEP, job_id)

    def outcome(self, job_id: str, jail: bool) -> str | None:
        """What the user's marker says."""
        workspace = settings().workspaces / job_id
        # In the jail the user makes them in the image's /tmp, and so in the overlay; else in /mnt/image, beside it.
        folder = workspace / "changes" / "upper" / "tmp" if jail else workspace / "image"
        return marked(folder)


def wait_until_open(workspace: Path) -> dict[str, Any]:
    """What the step says of its shell when that takes connections. Raises ImsError: it does not."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            shell = json.loads((workspace / "shell.json").read_text())
            return {name: shell[name] for name in ("host", "port", "fingerprint", "command")}
        except FileNotFoundError:
            time.sleep(0.1)
        if _result(workspace).exists():
            said = json.loads(_result(workspace).read_text())
            raise ImsError(f"the shell did not open: {said['error']}", said["hint"])
    log = services.log_file(STEP, workspace.name)
    last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
    raise ImsError(f"the shell did not open in {START_SECONDS} s: {''.join(last) or 'it says nothing'}")


def _result(workspace: Path) -> Path:
    """Where the step says why it ended: a shell that is open does not."""
    return workspace / "run" / f"{STEP}.json"


def _port(workspace: Path) -> int:
    """The port that the job's shell had before, else one that is free."""
    try:
        return int(json.loads((workspace / "shell.json").read_text())["port"])
    except (FileNotFoundError, ValueError, KeyError):
        return sshd.free_port(settings().host)
