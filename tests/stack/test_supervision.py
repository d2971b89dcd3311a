"""What supervisord is told."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from configparser import RawConfigParser
from pathlib import Path

import pytest
from pydantic import HttpUrl

from ims import supervisord
from ims.settings import Settings
from ims.stack import supervision
from ims.stack.credentials import Credentials, ensure_credentials
from ims.stack.environment import process_environment

AIRFLOW = {"api-server", "scheduler", "dag-processor", "triggerer"}


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """An installation whose folders are there."""
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


def test_configuration_holds_no_secret(own: Settings) -> None:
    """Those are in the environment, which only root can read; a command line everybody can."""
    credentials: Credentials = ensure_credentials(own)
    text = supervision.write_configuration(own).read_text()
    environment = process_environment(own, credentials)
    for name, secret in credentials.model_dump().items():
        assert secret not in text, name
    assert credentials.jwt_secret in environment.values()


def test_every_program_exists(own: Settings) -> None:
    """And is started by its whole path, or by one that is made before the start."""
    for name, command in commands(own).items():
        path = Path(command[0])
        assert path.is_absolute(), name
        assert path.exists() or path.is_relative_to(own.home), name


def test_s3_is_left_out_where_the_site_has_one(own: Settings) -> None:
    """The rest runs all the same."""
    other = Settings(home=own.home, s3_endpoint_url=HttpUrl("https://s3.example"))
    assert set(commands(own)) - set(commands(other)) == {"s3"}
    assert set(commands(other)) >= AIRFLOW


def test_s3_listens_where_it_is_told(own: Settings) -> None:
    """On our address only, and with nothing open that nobody asked for."""
    options = dict(option.lstrip("-").split("=", 1) for option in commands(own)["s3"][2:])
    assert (options["ip"], options["ip.bind"], options["s3.port"]) == ("127.0.0.9", "127.0.0.9", str(own.s3_port))
    assert {options[name] for name in ("webdav", "admin.ui", "master.telemetry", "s3.autoCreateBucket")} == {"false"}


def test_supervisord_itself_is_reached_by_root_only(own: Settings) -> None:
    """By a socket in the file system; it has no port."""
    parser = configuration(own)
    assert parser["unix_http_server"] == {"file": f"{own.home}/run/supervisor.sock", "chmod": "0700"}
    assert not parser.has_section("inet_http_server")


def test_nothing_runs_at_first(own: Settings) -> None:
    """Asking and stopping are no errors then."""
    assert not supervisord.is_running(own)
    supervisord.stop(own)


def test_another_process_with_the_same_number_is_not_taken_for_ours(own: Settings) -> None:
    """After a restart of the machine an old number may be anybody's."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        (own.home / "run" / "supervisord.pid").write_text(f"{stranger.pid}\n")
        assert not supervisord.is_running(own)
        supervisord.stop(own)
        assert stranger.poll() is None
        stranger.communicate(b"\n")


def test_supervisord_runs_from_start_to_stop(own: Settings) -> None:
    """Seen at once after its start, so that a stop right then finds it; Airflow is not started with it."""
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
