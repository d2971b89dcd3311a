"""The programs of the stack, and the configuration with which supervisord runs them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ims import supervisord
from ims.errors import ImsError
from ims.settings import Settings
from ims.stack import postgres, revival, seaweedfs
from ims.supervisord import BIN, STOP_SECONDS


@dataclass(frozen=True)
class Program:
    """A program that supervisord runs; `options` are lines of its configuration."""

    name: str
    command: tuple[str, ...]
    directory: Path
    options: tuple[str, ...] = ()


def programs(settings: Settings) -> list[Program]:
    """The four parts of Airflow, its database, S3 unless the site has its own, and the gateway if it has an address.

    supervisord does not start Airflow by itself: its database must be migrated first.
    """
    airflow = str(BIN / "airflow")
    home = settings.home / "airflow"
    parts = {
        "api-server": (airflow, "api-server"),
        "scheduler": (str(BIN / "python"), "-m", "ims.scheduler"),
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
    if settings.gateway:
        gateway = (str(BIN / "python"), "-m", "ims.gateway")
        found.append(Program("gateway", gateway, home, ("autostart=false", "priority=300", "startsecs=3")))
    if settings.s3_endpoint_url is None:
        found.append(Program("s3", seaweedfs.command(settings), seaweedfs.folder(settings), ("priority=100",)))
    return found


def write_configuration(settings: Settings, parts: Sequence[Program] | None = None) -> Path:
    """Write the configuration of supervisord and return its path. Secrets are not in it, but in the environment.

    Without `parts`, supervisord runs all programs of the stack.
    """
    parts = programs(settings) if parts is None else parts
    run, logs = settings.home / "run", settings.home / "logs"
    sections = [
        f"[unix_http_server]\nfile={run}/supervisor.sock\nchmod=0700",
        f"[supervisord]\nuser=root\nlogfile={logs}/supervisord.log\nlogfile_maxbytes=20MB\nlogfile_backups=2\npidfile={run}/supervisord.pid\nchildlogdir={logs}",
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
        f"[supervisorctl]\nserverurl=unix://{run}/supervisor.sock",
        f"[include]\nfiles={supervisord.services_folder(settings)}/*.conf",
    ]
    sections += [
        f"[program:{program.name}]\ncommand={' '.join(program.command)}\ndirectory={program.directory}\n"
        f"redirect_stderr=true\nstdout_logfile={logs}/{program.name}.log\nstdout_logfile_maxbytes=20MB\n"
        f"stdout_logfile_backups=2\nstopasgroup=true\nkillasgroup=true\nstopwaitsecs={STOP_SECONDS}\n"
        "autorestart=true\nstartretries=3\n" + "\n".join(program.options)
        for program in parts
    ]
    names = " ".join(program.name for program in parts)
    sections.append(
        f"[eventlistener:revival]\ncommand={BIN / 'python'} -m ims.stack.revival {names}\nevents={revival.EVENT}\n"
        f"directory={settings.home}\nstderr_logfile={logs}/revival.log\nstderr_logfile_maxbytes=1MB\nautorestart=true"
    )
    path = supervisord.configuration_path(settings)
    path.write_text("\n\n".join(sections) + "\n")
    return path


def start(settings: Settings, environment: Mapping[str, str]) -> None:
    """Start supervisord, the database and S3, unless supervisord runs already."""
    configuration = write_configuration(settings)
    if supervisord.is_running(settings):
        return
    subprocess.run([BIN / "supervisord", "-c", configuration], env=dict(environment), check=True)
    deadline = time.monotonic() + STOP_SECONDS
    while not supervisord.is_running(settings):  # it writes its PID file only after it has gone into the background
        if time.monotonic() > deadline:
            raise ImsError("supervisord does not start", f"See {settings.home}/logs/supervisord.log")
        time.sleep(0.05)
