"""The commands that deal with the shell of a job, with a service in memory and without an SSH server."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from ims.cli import ssh
from ims.errors import ConfigurationError, ImsError, UnavailableError
from tests.cli.fake_service import FakeService, Program, connect_to
from tests.service import PUBLIC_KEY

JOB = "aaaa1111-0000-4000-8000-000000000001"
ADDRESS = {"host": "0.0.0.0", "port": 2222}  # noqa: S104


def job(status: str) -> dict[str, Any]:
    """Return a job whose shell listens on all addresses."""
    shell = {"connection_info": {"customer_access": ADDRESS}, "fingerprint": "SHA256:x", "until": "2026-11-02"}
    return {"id": JOB, "status": status, "steps": [], "ssh_containers": [shell], "reason": ""}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeService:
    """A service whose job waits for its user."""
    monkeypatch.setattr("ims.cli.following.time.sleep", lambda _seconds: None)
    fake = FakeService()
    fake.answers[f"jobs/{JOB}"] = job("waiting_on_user")
    fake.answers[f"jobs/{JOB}/shell"] = {"operation": "complete", "closed": "2026-11-01"}
    return fake


@pytest.fixture
def program(fake: FakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """The program, connected to the service."""
    return connect_to(fake, monkeypatch, tmp_path)


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Replace ssh by a function that records its arguments and succeeds."""
    seen: list[tuple[Any, ...]] = []

    def run(*arguments: Any) -> int:
        seen.append(arguments)
        return 0

    monkeypatch.setattr(ssh, "run", run)
    return seen


def test_the_program_waits_for_the_shell(
    program: Program, fake: FakeService, logins: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    """It says once that it waits, then runs the command there."""
    states = [job("building_image"), job("building_image"), job("waiting_on_user")]
    fake.answers[f"jobs/{JOB}"] = lambda _request: states.pop(0)
    done = program.run("jobs", "shell", JOB, "-i", tmp_path / "key", "--", "uname", "-r")
    assert (done.code, done.stderr) == (0, f"job {JOB} is building_image; waiting for its shell\n")
    assert logins == [(job("waiting_on_user"), "http://ims.example.com", tmp_path / "key", ["uname", "-r"])]


def test_a_job_that_ended_has_no_shell(program: Program, fake: FakeService) -> None:
    """The error says how the job ended."""
    fake.answers[f"jobs/{JOB}"] = job("error")
    done = program.run("jobs", "shell", JOB)
    assert done.code == 2
    assert f"the job {JOB} has ended with status error. Start another job: ims jobs create" in done.stderr


def test_after_a_shell(program: Program, logins: list[tuple[Any, ...]]) -> None:
    """Without a terminal, the program prints the commands that end the shell."""
    done = program.run("jobs", "shell", JOB)
    assert done.stderr.splitlines() == [
        "The shell stays open until 2026-11-02.",
        f"To finish it: ims jobs complete {JOB}. To give it up: ims jobs fail {JOB}",
    ]


def test_after_a_shell_that_was_completed(program: Program, fake: FakeService, logins: list[tuple[Any, ...]]) -> None:
    """The user may have ended the shell from inside."""
    states = [job("waiting_on_user"), job("packaging_artifacts")]
    fake.answers[f"jobs/{JOB}"] = lambda _request: states.pop(0)
    done = program.run("jobs", "shell", JOB)
    assert done.stderr == f"job {JOB} is packaging_artifacts. To follow it: ims jobs follow {JOB}\n"


def test_a_login_that_fails(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is that of ssh, and the note names the option for the key."""
    monkeypatch.setattr(ssh, "run", lambda *_: ssh.NOT_CONNECTED)
    done = program.run("jobs", "shell", JOB, "--", "true")
    assert done.code == 255
    assert done.stderr.endswith("with -i\n")


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (("complete", JOB), {"operation": "complete"}),
        (("fail", JOB), {"operation": "fail"}),
        (("extend", JOB), {"operation": "extend"}),
        (("extend", JOB, "--seconds", "60"), {"operation": "extend", "seconds": 60}),
    ],
)
def test_operations(program: Program, fake: FakeService, words: tuple[str, ...], body: dict[str, Any]) -> None:
    """Each command sends its operation to the shell."""
    assert program.run("jobs", *words).code == 0
    assert fake.sent("POST") == [body]


def test_a_shell_that_refuses(program: Program, fake: FakeService) -> None:
    """`complete` waits for the answer; the error is the reason of the job, and how to log in."""
    answers = iter(["complete", "complete", None])
    fake.answers[f"jobs/{JOB}/shell"] = lambda request: {
        "operation": "complete" if request.method == "POST" else next(answers),
        "closed": None,
    }
    states = iter(["fetching_image", "waiting_on_user"])
    fake.answers[f"jobs/{JOB}"] = lambda _request: {**job(next(states)), "reason": "The image has no /boot/initrd"}
    done = program.run("jobs", "complete", JOB)
    assert (done.code, done.stdout) == (2, "")
    assert f"The image has no /boot/initrd. The shell is open: ims jobs shell {JOB}" in done.stderr


def test_a_shell_that_does_not_answer(program: Program, fake: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program does not wait forever."""
    fake.answers[f"jobs/{JOB}/shell"] = {"operation": "complete", "closed": None}
    monkeypatch.setattr("ims.cli.shells.ANSWER_SECONDS", 0.01)
    assert program.run("jobs", "complete", JOB).stderr == f"To follow the job: ims jobs follow {JOB}\n"


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The only folder in which programs are found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install(folder: Path, name: str, script: str) -> None:
    """Install a shell script as a program."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def fingerprint(tmp_path: Path) -> str:
    """The fingerprint of the public key, from ssh-keygen."""
    path = tmp_path / "key.pub"
    path.write_text(PUBLIC_KEY)
    done = subprocess.run(["ssh-keygen", "-l", "-f", path], capture_output=True, text=True, check=True)
    return done.stdout.split()[1]


@pytest.mark.system
def test_fingerprint(fingerprint: str) -> None:
    """It is the one that ssh-keygen prints."""
    assert ssh.fingerprint_of(PUBLIC_KEY) == fingerprint


@pytest.mark.system
def test_host_key(fingerprint: str, tools: Path) -> None:
    """Of several host keys, the one with the fingerprint is returned. Comments are skipped."""
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    install(tools, "ssh-keyscan", f"echo '# host'; echo 'host {other}'; echo 'host {PUBLIC_KEY}'")
    assert ssh.host_key("host", 22, fingerprint) == PUBLIC_KEY
    with pytest.raises(ImsError, match="the server on host port 22 is not the shell of this job"):
        ssh.host_key("host", 22, "SHA256:other")


@pytest.mark.system
def test_no_server_answers(tools: Path) -> None:
    """The service may be on another network."""
    install(tools, "ssh-keyscan", "exit 1")
    with pytest.raises(UnavailableError, match="Try again from a machine that can reach it"):
        ssh.host_key("host", 22, "SHA256:x")


@pytest.mark.system
def test_ssh_is_not_installed(tools: Path) -> None:
    """The error names the package."""
    with pytest.raises(ConfigurationError, match="Install openssh-client"):
        ssh.host_key("host", 22, "SHA256:x")


@pytest.mark.system
def test_run(fingerprint: str, tools: Path) -> None:
    """ssh gets the address of the service, the pinned host key, the key and the command. Its exit code is returned."""
    install(tools, "ssh-keyscan", f"echo 'host {PUBLIC_KEY}'")
    install(tools, "ssh", f'printf "%s\\n" "$@" > {tools}/arguments; exit 3')
    waiting = job("waiting_on_user")
    waiting["ssh_containers"][0]["fingerprint"] = fingerprint
    assert ssh.run(waiting, "https://ims.example.com:8443/x", Path("/key"), ("uname", "-r")) == 3
    arguments = (tools / "arguments").read_text().splitlines()
    assert arguments[:4] == ["-p", "2222", "-l", "root"]
    assert arguments[arguments.index("-i") + 1] == "/key"
    assert {"IdentitiesOnly=yes", f"HostKeyAlias={JOB}", "StrictHostKeyChecking=yes"} <= set(arguments)
    assert arguments[-4:] == ["--", "ims.example.com", "uname", "-r"]
