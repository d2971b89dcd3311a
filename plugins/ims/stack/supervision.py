"""The processes of the stack, kept alive by supervisord."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ims.errors import ImsError
from ims.settings import Settings
from ims.stack import postgres
from ims.stack.roles import roles_file

BIN = Path(sys.executable).parent
STOP_SECONDS = 30


@dataclass(frozen=True)
class Program:
    """One supervised process. Those of Airflow wait until what they need is there."""

    name: str
    command: tuple[str, ...]
    directory: Path
    options: tuple[str, ...] = ()


def programs(settings: Settings) -> list[Program]:
    """Everything that runs: the four parts of Airflow, its database, and S3 unless the site has its own."""
    airflow = str(BIN / "airflow")
    home = settings.home / "airflow"
    parts = {
        "api-server": (airflow, "api-server"),
        "scheduler": (airflow, "scheduler", "-s"),
        "dag-processor": (airflow, "dag-processor"),
        "triggerer": (airflow, "triggerer", "-s"),
    }
    found = [
        Program(name, command, home, ("autostart=false", "priority=200", "startsecs=10"))
        for name, command in parts.items()
    ]
    found.append(
        Program(
            "postgres",
            postgres.command(settings),
            settings.home / "postgres",
            (f"user={postgres.USER}", "stopsignal=INT", "priority=100"),
        )
    )
    if settings.s3_endpoint_url is None:
        found.append(Program("s3", weed_command(settings), settings.home / "s3", ("priority=100",)))
    return found


def weed_command(settings: Settings) -> tuple[str, ...]:
    """SeaweedFS as one process with nothing open but S3, and that on our address only."""
    internal = settings.s3_internal_port
    options = {
        "dir": settings.home / "s3",
        "ip": settings.host,
        "ip.bind": settings.host,
        "bucket": f"{settings.recipes_bucket},{settings.images_bucket}",
        "s3.port": settings.s3_port,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.allowDeleteBucketNotEmpty": "false",
        "s3.autoCreateBucket": "false",
        "s3.iam.config": roles_file(settings),
        "master.port": internal,
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 1024,
        "volume.port": internal + 1,
        "filer.port": internal + 2,
        "filer.localSocket": settings.home / "run" / "filer.sock",
        "admin.port": internal + 3,
        "admin.ui": "false",
        "webdav": "false",
    }
    return (str(BIN / "weed"), "mini", *(f"-{name}={value}" for name, value in options.items()))


def write_configuration(settings: Settings) -> Path:
    """Write supervisord's configuration; it holds no secret, those are in the environment. Returns its path."""
    run, logs = settings.home / "run", settings.home / "logs"
    sections = [
        f"[unix_http_server]\nfile={run}/supervisor.sock\nchmod=0700",
        f"[supervisord]\nuser=root\nlogfile={logs}/supervisord.log\npidfile={run}/supervisord.pid\nchildlogdir={logs}",
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
        f"[supervisorctl]\nserverurl=unix://{run}/supervisor.sock",
        f"[include]\nfiles={services_folder(settings)}/*.conf",
    ]
    sections += [
        f"[program:{program.name}]\ncommand={' '.join(program.command)}\ndirectory={program.directory}\n"
        f"redirect_stderr=true\nstdout_logfile={logs}/{program.name}.log\nstdout_logfile_maxbytes=20MB\n"
        f"stdout_logfile_backups=2\nstopasgroup=true\nkillasgroup=true\nstopwaitsecs={STOP_SECONDS}\n"
        "autorestart=true\nstartretries=3\n" + "\n".join(program.options)
        for program in programs(settings)
    ]
    path = run / "supervisord.conf"
    path.write_text("\n\n".join(sections) + "\n")
    return path


def services_folder(settings: Settings) -> Path:
    """Where the configurations of programs are that come and go while the stack runs."""
    folder = settings.home / "run" / "services"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def update(settings: Settings, name: str) -> None:
    """Start or stop a program whose configuration came or went. Raises ImsError: supervisord does not do it."""
    done = _run_control(settings, "update", name)
    if done.returncode != 0 and "no such group" not in done.stdout:
        raise ImsError(f"supervisord cannot update {name}: {done.stdout.strip()}")


def start(settings: Settings, environment: Mapping[str, str]) -> None:
    """Start supervisord and with it what Airflow needs. Running already is no error."""
    configuration = write_configuration(settings)
    if is_running(settings):
        return
    subprocess.run([BIN / "supervisord", "-c", configuration], env=dict(environment), check=True)
    deadline = time.monotonic() + STOP_SECONDS
    while not is_running(settings):  # it says who it is only after it went into the background
        if time.monotonic() > deadline:
            raise ImsError("supervisord does not start", f"See {settings.home}/logs/supervisord.log")
        time.sleep(0.05)


def start_airflow(settings: Settings) -> None:
    """Start the parts of Airflow. Running already is no error."""
    _control(settings, "start", "all")


def is_running(settings: Settings) -> bool:
    """Whether supervisord of this installation runs."""
    return _supervisord_pid(settings) is not None


def stop(settings: Settings) -> None:
    """Stop every program and supervisord itself, and wait until they are gone.

    Raises ImsError: supervisord is still there after its time.
    """
    pid = _supervisord_pid(settings)
    if pid is None:
        return
    _control(settings, "shutdown")
    deadline = time.monotonic() + 3 * STOP_SECONDS
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            raise ImsError(f"supervisord ({pid}) does not stop", f"See {settings.home}/logs/supervisord.log")
        time.sleep(0.1)


def states(settings: Settings) -> dict[str, str]:
    """Each program's state in supervisord's words (RUNNING, BACKOFF, FATAL, …)."""
    lines = _control(settings, "status").splitlines()
    return {fields[0]: fields[1] for line in lines if len(fields := line.split()) > 1}


def _control(settings: Settings, *command: str) -> str:
    return _run_control(settings, *command).stdout


def _run_control(settings: Settings, *command: str) -> subprocess.CompletedProcess[str]:
    configuration = settings.home / "run" / "supervisord.conf"
    return subprocess.run(
        [BIN / "supervisorctl", "-c", configuration, *command], capture_output=True, text=True, check=False
    )


def _supervisord_pid(settings: Settings) -> int | None:
    try:
        pid = int((settings.home / "run" / "supervisord.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    own = os.fsencode(settings.home / "run" / "supervisord.conf")
    return pid if own in command.split(b"\0") else None
