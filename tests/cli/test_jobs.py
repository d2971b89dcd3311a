"""`ims jobs` against a running stack: start, follow, list, log in and end."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ims.cli import ssh
from ims.cli.progress import earlier_job
from ims.errors import ImsError, UnavailableError
from tests.cli.conftest import IMS, Cli, Key
from tests.flows.conftest import RECIPES
from tests.service import Service

CREATE = ("jobs", "create", "--job-type", "create", "--enable-debug", "False", "--image-root-archive-name")
CUSTOMIZE = ("jobs", "create", "--job-type", "customize", "--image-root-archive-name")


@pytest.fixture(scope="module")
def hanging(cli: Cli) -> str:
    """The name of a recipe whose repository never answers."""
    name = f"hanging-{uuid4().hex[:8]}"
    cli.ok("recipes", "push", RECIPES / "zypper", "--name", name, "--var", "REPOSITORY=http://127.0.0.1:1/x")
    return name


def customize(cli: Cli, image: dict[str, Any], key: Key, *options: str | Path) -> dict[str, Any]:
    """Start a customize job for the image; returns the job."""
    name = f"customized-{uuid4().hex[:8]}"
    words = (*CUSTOMIZE, name, "--artifact-id", image["id"], "--public-key-id", key.identity, *options)
    return dict(cli.json(*words))


def test_create_and_follow(cli: Cli, followed: subprocess.CompletedProcess[str], recipe: dict[str, Any]) -> None:
    """A followed job prints the id of its image to standard output and its steps to standard error."""
    assert followed.returncode == 0, followed.stderr
    image = cli.json("images", "describe", followed.stdout.strip())
    job = cli.json("jobs", "describe", image["job_id"])
    assert (job["status"], job["artifact_id"], job["enable_debug"]) == ("success", recipe["id"], False)
    done = [step for step in job["steps"] if step["state"] == "success"]
    assert len(done) > 8
    for step in done:
        assert re.search(rf"^{re.escape(step['name'])} +success +[\d.]+ s$", followed.stderr, re.MULTILINE)
    assert "\x1b" not in followed.stderr


def test_earlier_job(service: Service, image: dict[str, Any]) -> None:
    """The next build of the recipe is estimated from this one."""
    job = service.client.get(f"jobs/{image['job_id']}")
    assert earlier_job(service.client, job) != job
    assert earlier_job(service.client, {**job, "id": "the-next"}) == job


def test_follow_shows_the_log(followed: subprocess.CompletedProcess[str]) -> None:
    """A followed job shows the log of each step without timestamps and marks."""
    lines = followed.stderr.splitlines()
    assert "  running images.sh" in lines
    assert any(line.startswith("  fetch_recipe took ") for line in lines)
    assert [line for line in lines if re.match(r"  (20\d\d-|::|INFO |\[ \w+ *\]: )", line)] == []


def test_logs(cli: Cli, image: dict[str, Any]) -> None:
    """Without the name of a step, the logs of all steps are printed under their names."""
    one = cli.ok("jobs", "logs", image["job_id"], "build_image")
    assert "kiwi" in one.lower()
    whole = cli.ok("jobs", "logs", image["job_id"])
    assert "==> fetch_recipe <==" in whole
    assert "==> upload_artifacts[0] <==" in whole
    assert "GitWildMatchPattern" not in whole, "a DeprecationWarning of Airflow about its own code"
    assert "no step nix" in cli.refused("jobs", "logs", image["job_id"], "nix")


def test_describe(cli: Cli, image: dict[str, Any]) -> None:
    """The table of a job lists its steps and leaves out empty fields."""
    text = cli.ok("jobs", "describe", "cli-image")
    assert image["job_id"] in text
    assert re.search(r"^status +success$", text, re.MULTILINE)
    assert re.search(r"^build_image +success +20\d\d-", text, re.MULTILINE)
    assert "kubernetes_job" not in text


def test_job_that_fails(cli: Cli, key: Key) -> None:
    """A failed job gives exit code 1 and one line with the reason and the address of the log."""
    name = f"no-variables-{uuid4().hex[:8]}"
    cli.ok("recipes", "push", RECIPES / "zypper", "--name", name, "--var", "REPOSITORY=http://127.0.0.1:1/x")
    cli.ok("recipes", "update", name, "--template-dictionary-key", "OTHER", "--template-dictionary-value", "x")
    done = cli.run(*CREATE, "x", "--artifact-id", name, "--public-key-id", key.identity, "--follow")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"^fetch_recipe +failed", done.stderr, re.MULTILINE)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: the job failed: fetch_recipe: ")
    assert "template_dictionary" in last
    assert "http" in last
    job = cli.json("jobs", "list", "--status", "error")[-1]
    assert cli.run("jobs", "follow", job["id"]).returncode == 1
    assert cli.run("jobs", "shell", job["id"]).returncode == 2


def test_interrupted_follow(cli: Cli, key: Key, hanging: str) -> None:
    """Ctrl-C stops following and prints how to continue. The job runs until it is deleted."""
    process = cli.start(*CREATE, "x", "--artifact-id", hanging, "--public-key-id", key.identity, "--follow")
    assert process.stderr is not None
    identity = process.stderr.readline().split()[1]
    while "wait_for_repositories" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert f"ims jobs follow {identity}" in process.stderr.read()
    assert cli.json("jobs", "describe", identity)["status"] == "waiting_for_repos"
    assert [doomed["id"] for doomed in cli.json("jobs", "delete", identity, "--dry-run")] == [identity]
    cli.ok("jobs", "delete", identity)
    ended = cli.run("jobs", "follow", identity, "--format", "json")
    assert ended.returncode == 1
    assert "cancelled by admin at " in ended.stderr
    assert '"status": "error"' in ended.stdout


def test_filters(cli: Cli, image: dict[str, Any]) -> None:
    """Options select the jobs to list and to delete. An invalid option deletes nothing."""
    assert {job["status"] for job in cli.json("jobs", "list", "--status", "success")} == {"success"}
    assert cli.json("jobs", "list", "--age", "52w") == []
    assert [job["id"] for job in cli.json("jobs", "list", "--name", "cli-image")] == [image["job_id"]]
    before = cli.json("jobs", "list")
    for option in (("--age", "zzz"), ("--status", "zzz")):
        cli.refused("jobs", "deleteall", *option)
    assert cli.ok("jobs", "deleteall", "--status", "success", "--job-type", "create", "--age", "52w") == ""
    assert [job["id"] for job in cli.json("jobs", "list")] == [job["id"] for job in before]


def test_shell(cli: Cli, service: Service, image: dict[str, Any], key: Key) -> None:
    """The program logs in when the shell is open and verifies its host key. `complete` creates an image."""
    job = customize(cli, image, key, "--ssh-containers-name", "cli", "--ssh-containers-jail", "True", "--lease", "3600")
    assert job["ssh_containers"][0]["name"] == "cli"
    login = ("jobs", "shell", job["id"], "-i", key.private, "--")
    done = cli.run(*login, "echo changed > /etc/motd; cat /etc/motd")
    assert (done.returncode, done.stdout) == (0, "changed\n"), done.stderr
    assert "waiting for its shell" in done.stderr
    assert cli.run(*login, "exit", "3").returncode == 3
    shell = service.client.get(f"jobs/{job['id']}/shell")
    later = cli.json("jobs", "extend", job["id"], "--seconds", "20000")
    assert later["until"] > shell["until"]
    with pytest.raises(ImsError, match="is not the shell of this job"):
        ssh.host_key(shell["host"], shell["port"], "SHA256:other")
    with pytest.raises(UnavailableError, match="port 1"):
        ssh.host_key(shell["host"], 1, shell["fingerprint"])
    assert "ims jobs follow" in cli.run("jobs", "complete", job["id"]).stderr
    made = cli.run("jobs", "follow", job["id"])
    assert made.returncode == 0, made.stderr
    assert cli.json("images", "describe", made.stdout.strip())["job_id"] == job["id"]


def test_shell_on_a_terminal(cli: Cli, image: dict[str, Any], key: Key) -> None:
    """After an interactive shell, the user is asked how to end the job."""
    job = customize(cli, image, key, "--ssh-containers-jail", "True")
    user = User(cli, "jobs", "shell", job["id"], "-i", str(key.private))
    user.wait_for("# ")
    user.type("echo in-$((1+1))\n")
    user.wait_for("in-2")
    user.type("exit\n")
    user.wait_for("Finish?")
    user.type("fail\n")
    assert user.wait() == 0
    assert "ims jobs follow" in user.seen
    ended = cli.run("jobs", "follow", job["id"])
    assert ended.returncode == 1
    assert "given up" in ended.stderr


def test_shell_with_another_key(cli: Cli, image: dict[str, Any], key: Key, tmp_path: Path) -> None:
    """A login with another key fails, and the shell stays open until `fail` ends the job.

    So it does if the image lacks the kernel of the job: `complete` says so.
    """
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    job = customize(cli, image, key, "--kernel-file-name", "bzImage")
    follower = cli.start("jobs", "follow", job["id"])
    done = cli.run("jobs", "shell", job["id"], "-i", other, "--", "true")
    assert done.returncode == 255
    assert "Permission denied" in done.stderr
    assert "-i" in done.stderr.splitlines()[-1]
    refused = cli.refused("jobs", "complete", job["id"])
    assert "The image has no /boot/bzImage." in refused
    assert refused.endswith(f"The shell is open: ims jobs shell {job['id']}")
    cli.ok("jobs", "fail", job["id"])
    assert cli.refused("jobs", "complete", job["id"]).startswith("Conflict: ")
    _, output = follower.communicate(timeout=120)
    assert follower.returncode == 1
    assert f"the job waits for you: ims jobs shell {job['id']}" in output.splitlines()


def test_script(cli: Cli, image: dict[str, Any], key: Key, tmp_path: Path) -> None:
    """A script runs in the image without a shell, and an image is created."""
    path = tmp_path / "change.sh"
    path.write_text("#!/bin/sh -e\necho scripted > /etc/motd\n")
    job = customize(cli, image, key, "--script", path)
    done = cli.run("jobs", "follow", job["id"])
    assert done.returncode == 0, done.stderr
    assert cli.json("images", "describe", done.stdout.strip())["job_id"] == job["id"]


class User:
    """A user at a terminal in which the program runs."""

    def __init__(self, cli: Cli, *arguments: str) -> None:
        self._screen, terminal = pty.openpty()
        environment = {**cli.environment, "TERM": "xterm"}
        self._process = subprocess.Popen(
            [IMS, *arguments],
            env=environment,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        self.seen = ""

    def wait_for(self, text: str, timeout: float = 120) -> None:
        """Wait until a text appears that was not on the screen before."""
        start, deadline = len(self.seen), time.monotonic() + timeout
        while text not in self.seen[start:]:
            assert select.select([self._screen], [], [], max(0, deadline - time.monotonic()))[0], self.seen
            self.seen += os.read(self._screen, 65536).decode(errors="replace")

    def type(self, text: str) -> None:
        """Type a text."""
        os.write(self._screen, text.encode())

    def wait(self) -> int:
        """Wait until the program has ended; returns its exit code."""
        try:
            while data := os.read(self._screen, 65536):
                self.seen += data.decode(errors="replace")
        except OSError:
            pass  # The terminal is closed.
        return self._process.wait(60)
