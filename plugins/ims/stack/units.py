"""systemd runs the stack of one machine: each process has a unit, so that only process 1 supervises it.

After `make up`, supervisord supervises all processes. Here, it runs only the shells of jobs.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ims import supervisord
from ims.errors import ConfigurationError
from ims.files import write_private
from ims.settings import Settings
from ims.stack import lifecycle, postgres, seaweedfs, supervision
from ims.stack.credentials import Credentials, ensure_credentials
from ims.stack.environment import INHERITED, process_environment
from ims.stack.starting import FOLDER, TARGET, uses_systemd
from ims.workflows import check_limits

RUNNING = Path("/run/systemd/system")
"""It exists if systemd is process 1."""
VARIABLES = Path("/etc/ims/environment")
"""The settings of the units: the IMS_*, AWS_* and inherited variables of the shells that installed them."""
_OF_CLIENTS = {"IMS_URL", "IMS_TOKEN"}
SHELLS = "shells"
ONESHOTS = {"prepare": (), "migrate": ("prepare", "postgres")}
"""The units that run once before the programs, each with the units that must run before it."""
_AIRFLOW = ("api-server", "scheduler", "dag-processor", "triggerer", "gateway")

_UNIT = """\
[Unit]
Description=IMS: {name}
PartOf={target}
After=network-online.target {after}
Wants={after}
StartLimitIntervalSec=0

[Service]
EnvironmentFile=-{variables}
ExecStart={python} -m ims.stack {command}
"""
_ONESHOT = """\
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=900
Restart=on-failure
RestartSec=5
"""
_PROCESS = """\
Type=exec
Restart=always
RestartSec=1
TimeoutStopSec={seconds}
TasksMax=infinity
Delegate=yes
OOMPolicy=continue
"""
# The tasks outlive a scheduler that was killed: the next one adopts them. They end if the unit is stopped.
_END = "systemctl kill --kill-whom=all --signal={} %n"
_SCHEDULER = f"""\
KillMode=process
ExecStop=-/bin/sh -c '{_END.format("TERM")}'
ExecStopPost=-/bin/sh -c 'case $$SERVICE_RESULT in success|timeout) {_END.format("KILL")};; esac'
"""
_TARGET = """\
[Unit]
Description=Image management service
Wants={names}
After={names}

[Install]
WantedBy=multi-user.target
"""


def units(settings: Settings) -> dict[str, str]:
    """The text of each unit by its name."""
    names = [program.name for program in supervision.programs(settings)]
    after = {
        **ONESHOTS,
        **{name: ("prepare", *(("migrate",) if name in _AIRFLOW else ())) for name in names},
        SHELLS: ("prepare",),
        "ready": (*names, SHELLS),
    }
    services = {unit_of(name): _service(name, earlier) for name, earlier in after.items()}
    return {**services, TARGET: _TARGET.format(names=" ".join(services))}


def unit_of(name: str) -> str:
    """The name of the unit of a program."""
    return f"ims-{name}.service"


def _service(name: str, earlier: tuple[str, ...]) -> str:
    is_step = name in (*ONESHOTS, "ready")
    text = _UNIT.format(
        name=name,
        target=TARGET,
        after=" ".join(map(unit_of, earlier)),
        variables=VARIABLES,
        python=sys.executable,
        command=name if is_step else f"run {name}",
    )
    text += _ONESHOT if is_step else _PROCESS.format(seconds=supervisord.STOP_SECONDS)
    if name == "scheduler":
        text += _SCHEDULER
    return text + ("KillSignal=SIGINT\n" if name == "postgres" else "")


def install(settings: Settings) -> Credentials:
    """Write the units and start them, now and at boot; returns the credentials when a job can run.

    Raises ConfigurationError if this user is not root, if systemd does not run, or if `make up` started the stack.
    """
    _check_systemd()
    if supervisord.is_running(settings) and not uses_systemd():
        raise ConfigurationError("make up has started the service", "Run make down first")
    VARIABLES.parent.mkdir(exist_ok=True)
    write_private(VARIABLES, variables(settings, os.environ))
    needed = units(settings)
    if former := _installed() - set(needed):
        _systemctl("stop", *former)
    for name in former:
        (FOLDER / name).unlink()
    for name, text in needed.items():
        (FOLDER / name).write_text(text)
    _systemctl("daemon-reload")
    _systemctl("enable", TARGET)
    _systemctl("restart", TARGET)
    _systemctl("start", unit_of("ready"))
    return ensure_credentials(settings)


def variables(settings: Settings, environment: Mapping[str, str]) -> str:
    """The settings as an environment file: what `make env` exports for clients is not among them."""
    prefixes = ("IMS_",) if settings.s3_endpoint_url is None else ("IMS_", "AWS_")
    kept = {name: value for name, value in environment.items() if name.startswith(prefixes) or name in INHERITED}
    lines = {**kept, "IMS_HOME": str(settings.home)}
    return "".join(f"{name}={shlex.quote(lines[name])}\n" for name in sorted(set(lines) - _OF_CLIENTS))


def saved_variables() -> dict[str, str]:
    """The settings of the units that are installed."""
    if not VARIABLES.exists():
        return {}
    return dict(line.split("=", 1) for line in shlex.split(VARIABLES.read_text()) if "=" in line)


def uninstall() -> None:
    """Stop and remove the units. The data and the settings stay.

    Raises ConfigurationError if this user is not root, or if systemd does not run.
    """
    _check_systemd()
    found = sorted(_installed())
    if uses_systemd():
        _systemctl("disable", "--now", TARGET)
        _systemctl("stop", *found)
    for name in (*found, TARGET):
        (FOLDER / name).unlink(missing_ok=True)
    _systemctl("daemon-reload")


def _installed() -> set[str]:
    """The services that are installed."""
    return {path.name for path in FOLDER.glob("ims-*.service")}


def _check_systemd() -> None:
    if os.geteuid() != 0:
        raise ConfigurationError("only root can change units of systemd", "Run it again as root")
    if not RUNNING.is_dir():
        raise ConfigurationError("systemd does not run on this machine", "Use make up and make down")


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise ConfigurationError(f"systemctl {' '.join(arguments)} failed: {done.stderr.strip()}", "See journalctl -e")


def prepare(settings: Settings) -> None:
    """Make what the programs need before their start. Raises ConfigurationError if a setting is wrong."""
    check_limits(settings)
    credentials = lifecycle.prepare_home(settings)
    if settings.s3_endpoint_url is None:
        seaweedfs.configure(settings, credentials)
    supervision.write_configuration(settings, [])


def migrate(settings: Settings) -> None:
    """Migrate Airflow's database when it accepts connections."""
    lifecycle.wait(settings, "the Airflow database", lambda: postgres.is_ready(settings))
    lifecycle.migrate(settings, process_environment(settings, ensure_credentials(settings)))


def run(settings: Settings, name: str) -> None:
    """Replace this process with a program of the stack. Raises ConfigurationError if there is no such program."""
    environment = process_environment(settings, ensure_credentials(settings))
    if name == SHELLS:
        configuration = str(supervisord.configuration_path(settings))
        shells = (str(supervisord.BIN / "supervisord"), "-n", "-c", configuration)
        programs = [supervision.Program(SHELLS, shells, settings.home)]
    else:
        programs = [program for program in supervision.programs(settings) if program.name == name]
    if not programs:
        raise ConfigurationError(f"there is no program {name}", f"See the units ims-*.service in {FOLDER}")
    command = programs[0].command
    os.chdir(programs[0].directory)
    if name == "postgres":
        postgres.become_user()
    os.execve(command[0], command, environment)  # noqa: S606
