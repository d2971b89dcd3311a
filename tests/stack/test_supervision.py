"""The configuration of supervisord, and its start and stop."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from configparser import RawConfigParser
from pathlib import Path

import pytest
from pydantic import HttpUrl

from ims import supervisord
from ims.settings import Settings
from ims.stack import supervision
from ims.stack.credentials import Credentials, ensure_credentials
from ims.stack.environment import process_environment
from tests.running import running_commands

AIRFLOW = {"api-server", "scheduler", "dag-processor", "triggerer"}


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """An installation whose folders exist."""
    for name in ("run", "logs"):
        (tmp_path / name).mkdir()
    return Settings(home=tmp_path, host="127.0.0.9")


def configuration(own: Settings) -> RawConfigParser:
    """The written configuration."""
    parser = RawConfigParser()
    parser.read(supervision.write_configuration(own))
    return parser


def commands(own: Settings) -> dict[str, list[str]]:
    """The command line of each program."""
    parser = configuration(own)
    sections = [name for name in parser.sections() if name.startswith("program:")]
    return {name.partition(":")[2]: shlex.split(parser[name]["command"]) for name in sections}


def test_configuration_contains_no_secret(own: Settings) -> None:
    """Secrets are in the environment, which only root can read; everybody can read command lines."""
    credentials: Credentials = ensure_credentials(own)
    text = supervision.write_configuration(own).read_text()
    environment = process_environment(own, credentials)
    for name, secret in credentials.model_dump().items():
        assert secret not in text, name
    assert credentials.jwt_secret in environment.values()


def test_every_program_exists(own: Settings) -> None:
    """It has an absolute path, which exists or is created before the start."""
    for name, command in commands(own).items():
        path = Path(command[0])
        assert path.is_absolute(), name
        assert path.exists() or path.is_relative_to(own.home), name


def test_no_embedded_s3_if_the_site_has_one(own: Settings) -> None:
    """The other programs are the same."""
    other = Settings(home=own.home, s3_endpoint_url=HttpUrl("https://s3.example"))
    assert set(commands(own)) - set(commands(other)) == {"s3"}
    assert set(commands(other)) >= AIRFLOW


def test_gateway_runs_if_it_has_an_address(own: Settings) -> None:
    """Otherwise, nobody can send requests without a token."""
    assert "gateway" not in commands(own)
    assert commands(Settings(home=own.home, gateway="127.0.0.1:8081"))["gateway"][1:] == ["-m", "ims.gateway"]


def test_s3_listens_on_the_configured_address(own: Settings) -> None:
    """It opens no other service."""
    options = dict(option.lstrip("-").split("=", 1) for option in commands(own)["s3"][2:])
    assert (options["ip"], options["ip.bind"], options["s3.port"]) == ("127.0.0.9", "127.0.0.9", str(own.s3_port))
    assert {options[name] for name in ("webdav", "admin.ui", "master.telemetry", "s3.autoCreateBucket")} == {"false"}


def test_only_root_can_control_supervisord(own: Settings) -> None:
    """It listens on a socket in the file system and on no port."""
    parser = configuration(own)
    assert parser["unix_http_server"] == {"file": f"{own.home}/run/supervisor.sock", "chmod": "0700"}
    assert not parser.has_section("inet_http_server")


def test_stop_before_the_start_does_nothing(own: Settings) -> None:
    """Supervisord counts as not running."""
    assert not supervisord.is_running(own)
    supervisord.stop(own)


def test_process_with_a_reused_pid_is_not_supervisord(own: Settings) -> None:
    """After a reboot, any process may have the PID in the file."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        (own.home / "run" / "supervisord.pid").write_text(f"{stranger.pid}\n")
        assert not supervisord.is_running(own)
        supervisord.stop(own)
        assert stranger.poll() is None
        stranger.communicate(b"\n")


@pytest.mark.system
def test_supervisord_runs_from_start_to_stop(own: Settings) -> None:
    """It counts as running as soon as `start` returns; Airflow does not start with it."""
    other = Settings(home=own.home, s3_endpoint_url=HttpUrl("https://s3.example"))
    supervision.start(other, {"PATH": "/usr/bin:/bin"})
    try:
        assert supervisord.is_running(other)
        states = supervisord.states(other)
    finally:
        time.sleep(0 if supervisord.is_running(other) else 1)
        supervisord.stop(other)
    assert {name for name, state in states.items() if state == "STOPPED"} >= AIRFLOW
    assert not supervisord.is_running(other)
    assert not (own.home / "run" / "supervisor.sock").exists()


@pytest.fixture
def supervised(own: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """An installation whose programs are two scripts: one never ends, the other one needs the file `disk`."""
    stubborn = _script(own, "stubborn", "trap '' TERM; while :; do sleep 1; done")
    needy = _script(own, "needy", f"test -e {own.home}/disk && exec sleep 300")
    programs = [
        supervision.Program("stubborn", stubborn, own.home, ("startsecs=0",)),
        supervision.Program("needy", needy, own.home, ("startretries=0", "startsecs=1")),
    ]
    monkeypatch.setattr(supervision, "programs", lambda _settings: programs)
    for module in (supervision, supervisord):
        monkeypatch.setattr(module, "STOP_SECONDS", 2)
    supervision.start(own, {"PATH": "/usr/bin:/bin"})
    yield own
    supervisord.stop(own)
    supervisord.end_orphans(own)


def _script(own: Settings, name: str, text: str) -> tuple[str, ...]:
    path = own.home / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return (str(path),)


def state_of(own: Settings, program: str, expected: str) -> bool:
    """Wait until a program has a state."""
    until = time.monotonic() + 30
    while supervisord.states(own).get(program) != expected:
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


@pytest.mark.system
def test_program_is_started_again_after_a_full_disk(supervised: Settings) -> None:
    """supervisord gives up on it, but not for good."""
    assert state_of(supervised, "needy", "FATAL")
    (supervised.home / "disk").touch()
    assert state_of(supervised, "needy", "RUNNING")


@pytest.mark.system
def test_orphans_of_a_killed_supervisord_end(supervised: Settings) -> None:
    """Otherwise they keep their ports, and the next start fails. Processes that ignore the request are killed, too."""
    assert state_of(supervised, "stubborn", "RUNNING")
    os.kill(int((supervised.home / "run" / "supervisord.pid").read_text()), signal.SIGKILL)
    with subprocess.Popen(["sleep", "300"], env={"IMS_HOME": str(supervised.home)}) as stranger:
        time.sleep(0.5)
        assert not supervisord.is_running(supervised)
        assert processes_in(supervised.home)
        supervisord.end_orphans(supervised)
        assert not processes_in(supervised.home)
        assert stranger.poll() is None
        stranger.kill()


def processes_in(home: Path) -> list[str]:
    """The command lines that contain the path of an installation."""
    return [line.decode(errors="replace") for line in running_commands() if str(home).encode() in line]
