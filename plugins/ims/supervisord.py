"""A client of this installation's supervisord, which supervises the processes of the stack and the shells of jobs.

The stack writes its configuration and starts it (`ims.stack.supervision`). Programs that come and go while it runs, the
services, each have a file in `services_folder`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
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
        end_orphans(settings)
        return
    control(settings, "shutdown")
    deadline = time.monotonic() + 3 * STOP_SECONDS
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            raise ImsError(f"supervisord ({pid}) does not stop", f"See {settings.home}/logs/supervisord.log")
        time.sleep(0.1)


def end_orphans(settings: Settings) -> None:
    """End the programs of a supervisord that was killed; they still use the ports and the database.

    Whatever does not end within STOP_SECONDS is killed. Raises ImsError if something runs even then.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_SECONDS
        while left := _descendants(settings):
            for pid in left:
                _send(pid, settings, number)
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)
    if left:
        raise ImsError(
            f"processes of an earlier start do not end: {', '.join(map(str, left))}", "End them, then try again"
        )


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


def _descendants(settings: Settings) -> list[int]:
    """The processes that this installation's supervisord started, and those that they started."""
    found = [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _is_descendant(folder, settings)]
    return [pid for pid in found if pid != os.getpid()]


def _is_descendant(process: Path, settings: Settings) -> bool:
    mark = f"SUPERVISOR_SERVER_URL=unix://{_socket_path(settings)}"
    try:
        return os.fsencode(mark) in (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _send(pid: int, settings: Settings, number: signal.Signals) -> None:
    """Send a signal. PostgreSQL ends its sessions only after SIGINT."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if _is_descendant(Path("/proc", str(pid)), settings):  # the kernel reuses process IDs
                is_database = Path(f"/proc/{pid}/comm").read_text().strip() == "postgres"
                soft = number is signal.SIGTERM
                signal.pidfd_send_signal(descriptor, signal.SIGINT if soft and is_database else number)
        finally:
            os.close(descriptor)


def _socket_path(settings: Settings) -> Path:
    return settings.home / "run" / "supervisor.sock"


def _pid(settings: Settings) -> int | None:
    try:
        pid = int((settings.home / "run" / "supervisord.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(configuration_path(settings)) in command.split(b"\0") else None
