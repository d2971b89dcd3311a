"""A client of this installation's supervisord, which supervises the processes of the stack and the shells of jobs.

The stack writes its configuration and starts it (`ims.stack.supervision`). Programs that come and go while it runs, the
services, each have a file in `services_folder`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from ims.errors import ImsError
from ims.settings import Settings

BIN = Path(sys.executable).parent
STOP_SECONDS = 30


def configuration_path(settings: Settings) -> Path:
    """Where supervisord reads its configuration."""
    return settings.home / "run" / "supervisord.conf"


def services_folder(settings: Settings) -> Path:
    """The folder of the configurations of services; created if it does not exist."""
    folder = settings.home / "run" / "services"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def update(settings: Settings, service: str) -> None:
    """Start or stop a service whose configuration was added or removed. Raises ImsError if supervisord refuses."""
    done = _run_control(settings, "update", service)
    if done.returncode != 0 and "no such group" not in done.stdout:
        raise ImsError(f"supervisord cannot update {service}: {done.stdout.strip()}")


def start_all(settings: Settings) -> None:
    """Start every program that does not run."""
    control(settings, "start", "all")


def stop(settings: Settings) -> None:
    """Stop every program and supervisord itself, if it runs, and wait until they have ended.

    Raises ImsError if supervisord still runs after three times STOP_SECONDS.
    """
    pid = _pid(settings)
    if pid is None:
        return
    control(settings, "shutdown")
    deadline = time.monotonic() + 3 * STOP_SECONDS
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            raise ImsError(f"supervisord ({pid}) does not stop", f"See {settings.home}/logs/supervisord.log")
        time.sleep(0.1)


def is_running(settings: Settings) -> bool:
    """Whether supervisord of this installation runs."""
    return _pid(settings) is not None


def states(settings: Settings) -> dict[str, str]:
    """The state of each program in supervisord's words: RUNNING, EXITED, BACKOFF, FATAL and so on."""
    lines = control(settings, "status").splitlines()
    return {fields[0]: fields[1] for line in lines if len(fields := line.split()) > 1}


def control(settings: Settings, *command: str) -> str:
    """Run a command of supervisorctl; returns what it prints."""
    return _run_control(settings, *command).stdout


def _run_control(settings: Settings, *command: str) -> subprocess.CompletedProcess[str]:
    program: list[str | Path] = [BIN / "supervisorctl", "-c", configuration_path(settings), *command]
    return subprocess.run(program, capture_output=True, text=True, check=False)


def _pid(settings: Settings) -> int | None:
    try:
        pid = int((settings.home / "run" / "supervisord.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(configuration_path(settings)) in command.split(b"\0") else None
