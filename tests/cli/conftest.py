"""Fixtures that run the program `ims` as a user does, against a running stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ims.stack.environment import s3_environment
from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import RepositoryServer, build_repository
from tests.service import Service

IMS = Path(sys.executable).parent / "ims"
PLAIN_RECIPE = Path(__file__).parent / "recipe"
"""A recipe without templates."""
INHERITED = ("PATH", "LANG")


@dataclass(frozen=True)
class Cli:
    """Runs the program with only these environment variables."""

    environment: Mapping[str, str] = field(repr=False)

    def run(self, *arguments: str | Path, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command until it ends; returns how it ended."""
        return subprocess.run(
            [IMS, *arguments],
            env={**self.environment, **more},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def ok(self, *arguments: str | Path, **more: str) -> str:
        """Run a command that must succeed; returns its output."""
        done = self.run(*arguments, **more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def json(self, *arguments: str | Path) -> Any:
        """Run a command that must succeed; returns the JSON that it prints."""
        text = self.ok(*arguments, "--format", "json")
        return json.loads(text) if text else None

    def refused(self, *arguments: str | Path, code: int = 2, **more: str) -> str:
        """Run a command that must fail; returns its one line of error without `Error: `."""
        done = self.run(*arguments, **more)
        assert (done.returncode, done.stdout) == (code, ""), done.stdout + done.stderr
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1
        return done.stderr.removeprefix("Error: ").rstrip("\n")

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a command and return while it runs.

        The command handles Ctrl-C even if the tests run in the background, where shells ignore it.
        """
        words = ("env", "--default-signal=INT", IMS, *arguments)
        return subprocess.Popen(words, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def with_variables(self, **changes: str | None) -> Cli:
        """Return a copy with other variables. None removes a variable."""
        merged = {**self.environment, **changes}
        return Cli({name: value for name, value in merged.items() if value is not None})


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The program with an empty home folder and without a login."""
    home = tmp_path_factory.mktemp("home")
    return Cli({**{name: os.environ[name] for name in INHERITED if name in os.environ}, "HOME": str(home), "TZ": "UTC"})


@pytest.fixture(scope="session")
def cli(offline: Cli, service: Service) -> Cli:
    """The program with the variables that `make env` prints."""
    token = service.http.headers["Authorization"].removeprefix("Bearer ")
    own = {"IMS_URL": f"{service.settings.airflow_url}/apis/ims", "IMS_TOKEN": token}
    return offline.with_variables(**own, **s3_environment(service.settings, service.credentials))


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RepositoryServer]:
    """An RPM repository served over HTTP."""
    with RepositoryServer(build_repository(tmp_path_factory.mktemp("repository"))) as server:
        yield server


@pytest.fixture(scope="session")
def recipe(cli: Cli, repository: RepositoryServer) -> dict[str, Any]:
    """A recipe that can be built, pushed by the program."""
    variable = f"REPOSITORY={repository.url}"
    found = cli.json("recipes", "push", RECIPES / "zypper", "--name", "cli-recipe", "--var", variable)
    return dict(found)


@dataclass(frozen=True)
class Key:
    """A key pair whose public key is registered."""

    private: Path
    identity: str


@pytest.fixture(scope="session")
def key(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Key:
    """A new key pair, registered by the program."""
    private = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", private], check=True)
    record = cli.json("public-keys", "create", "--name", "cli-key", "--public-key", private.with_suffix(".pub"))
    return Key(private, record["id"])


@pytest.fixture(scope="session")
def followed(cli: Cli, recipe: dict[str, Any], key: Key) -> subprocess.CompletedProcess[str]:
    """A create job that was started with names and followed until it ended."""
    names = ("--artifact-id", recipe["name"], "--public-key-id", "cli-key", "--image-root-archive-name", "cli-image")
    return cli.run("jobs", "create", "--job-type", "create", *names, "--enable-debug", "False", "--follow")


@pytest.fixture(scope="session")
def image(cli: Cli, followed: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The image that the job created."""
    return dict(cli.json("images", "describe", followed.stdout.strip()))
