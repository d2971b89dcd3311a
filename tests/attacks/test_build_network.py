"""The scripts of a hostile recipe try to reach this machine, and hosts that the recipe does not declare."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ims.sandbox import namespaces
from ims.shell import tools
from ims.steps import build_ca_package
from ims.workspace import Workspace
from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import Package, RepositoryServer, basic_packages, build_repository
from tests.network.serving import WebServer, web_server
from tests.recipes.summary import note_recipe

pytestmark = pytest.mark.system


@pytest.fixture
def machine() -> Iterator[WebServer]:
    """A service of this machine that listens on the address of its network card."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.254", 9))
        own = probe.getsockname()[0]
    with web_server(own) as started:
        yield started


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RepositoryServer]:
    """A repository with the curl of this machine."""
    curl = Path("/usr/bin/curl")
    files: dict[str, bytes | Path] = {str(file): file for file in (curl, *tools.libraries(curl))}
    package = Package("curl", programs=files, requires=("filesystem",))
    with RepositoryServer(build_repository(tmp_path / "repository", [*basic_packages(), package])) as running:
        yield running


def build(folder: Path, repository: str, script: str) -> subprocess.CompletedProcess[str]:
    """Build a recipe whose config.sh is `script`, and which installs curl."""
    shutil.copytree(RECIPES / "zypper", folder / "recipe")
    config = (folder / "recipe/config.xml").read_text().replace("{{ REPOSITORY }}", repository)
    text = config.replace("</packages>", '<package name="curl"/></packages>', 1)
    (folder / "recipe/config.xml").write_text(text)
    (folder / "recipe/config.sh").write_text(f"#!/bin/sh\n{script}")
    (folder / "recipe/config.sh").chmod(0o755)
    note_recipe(Workspace(folder))
    package = build_ca_package.run(build_ca_package.Input(workspace=folder, package_manager="zypper"))
    data = {"workspace": str(folder), "lineage": folder.name, "package_manager": "zypper", "ca_package": package}
    return subprocess.run(
        [*namespaces.STEP, sys.executable, "-m", "ims.steps", "build_image", "--result", str(folder / "result")],
        env=os.environ | {"IMS_ALLOWED_NETWORKS": "127.0.0.0/8"},
        input=json.dumps(data),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_script_of_a_recipe(tmp_path: Path, server: RepositoryServer, machine: WebServer) -> None:
    """Nothing is reached, and the reason of the failure names the host with the field that would allow it."""
    script = (
        f"curl -m 9 -sS {machine.url}proxy\n"
        f"curl -m 9 -sS --noproxy '*' {machine.url}direct\n"
        f"curl -m 9 -sS --noproxy '*' {server.url}/loopback\n"
        "curl -m 9 -sSf http://evil.example/ || exit 1\n"
    )
    folder = tmp_path / "job"
    folder.mkdir()
    done = build(folder, server.url, script)
    assert done.returncode != 0
    assert not machine.requests
    assert not [request for request in server.requests if "loopback" in request]
    reason = f"{done.stdout} {(folder / 'result').read_text() if (folder / 'result').exists() else ''}"
    assert "connections refused: " in reason
    assert "evil.example:80" in reason
    assert "network: open in .ims_recipe.yaml" in reason
