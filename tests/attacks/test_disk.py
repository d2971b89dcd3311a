"""Jobs that fill the disk of the workspaces: they end with the reason, and other jobs on the disk go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ims.errors import StepFailedError
from ims.runtime.local.process import StepProcess
from ims.runtime.local.runtime import LocalRuntime
from ims.settings import settings
from ims.steps import build_ca_package, build_image, run_script
from ims.steps.serve_shell import DISK_FULL
from ims.workspace import Workspace
from tests.flows.conftest import RECIPES
from tests.flows.disks import DISK_SIZE, mounted_disk, small_disk
from tests.flows.rpm_repository import RepositoryServer
from tests.flows.shells import Key, customize, ssh
from tests.recipes.summary import note_recipe
from tests.service import Service
from tests.shell.small_image import pack, write_root
from tests.shell.test_run_script import add_playbook
from tests.shell.test_shell import Shell, make_key

LARGE_FILE = "while :; do cat /dev/zero >> {folder}/large; done 2> /dev/null"
MANY_FILES = "mkdir {folder}/many; cd {folder}/many; i=0; while :; do i=$((i + 1)); : > $i; done 2> /dev/null"
# Ansible runs this task in its own sandbox, outside of the image.
PLAYBOOK = f"""\
- hosts: localhost
  connection: local
  gather_facts: false
  tasks: [{{ansible.builtin.raw: "{LARGE_FILE.format(folder="/root")}"}}]
"""
SPACE = 1
"""GiB that each job asks for; the disk has slightly more."""


@pytest.fixture
def disk(tmp_path: Path, configure: Callable[..., None]) -> Iterator[None]:
    """An installation whose workspaces have a small disk."""
    configure(home=tmp_path / "home")
    settings().workspaces.mkdir(parents=True)
    with mounted_disk(settings().workspaces, tmp_path / "disk", DISK_SIZE):
        yield


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A small image."""
    return pack(write_root(tmp_path / "root"), tmp_path / "rootfs")


@pytest.fixture
def other(disk: None, rootfs: Path, tmp_path: Path) -> Iterator[Shell]:
    """The shell of another job on the disk. Its user can go on after the attack."""
    served = Shell(make_key(tmp_path, "user"), rootfs)
    LocalRuntime().open_workspace(served.job, SPACE)
    served.start()
    yield served
    served.stop()
    LocalRuntime().close_workspace(served.job)


@pytest.fixture
def workspace(other: Shell) -> Iterator[Workspace]:
    """The workspace of the attacker."""
    folder = LocalRuntime().open_workspace("attacker", SPACE)
    yield Workspace(folder)
    assert other.thread.is_alive()
    LocalRuntime().close_workspace("attacker")
    assert other.says("echo more >> /etc/motd; cat /etc/motd") == "before\nmore"


def assert_ends(workspace: Workspace, run: Callable[[], object]) -> None:
    """The step ends for good, with a reason that names the job, the limits and the settings."""
    with pytest.raises(StepFailedError, match=f"the disk of {workspace.root} is almost full: ") as caught:
        run()
    assert caught.value.permanent
    assert "which is more than its 1.0 GiB" in str(caught.value)
    assert "IMS_DISK_RESERVE_MIB" in str(caught.value)
    assert "build_env_size" in str(caught.value)


@pytest.mark.system
@pytest.mark.parametrize("attack", [LARGE_FILE, MANY_FILES, None], ids=["large file", "many files", "playbook"])
def test_script_fills_the_disk(workspace: Workspace, rootfs: Path, attack: str | None) -> None:
    """It ends after it took more space, or more files, than its job asked for."""
    script = attack and f"#!/bin/sh\n{attack.format(folder='/etc')}\n"
    if script is None:
        add_playbook(workspace.root, {"site.yml": PLAYBOOK})
    data: dict[str, Any] = {"workspace": str(workspace.root), "rootfs": str(rootfs), "script": script, "seconds": 300}
    assert_ends(workspace, lambda: StepProcess().run(run_script.STEP, data, "script", print))


@pytest.mark.system
@pytest.mark.parametrize("jail", [True, False], ids=["jailed", "unjailed"])
def test_shell_fills_the_disk(workspace: Workspace, other: Shell, rootfs: Path, jail: bool) -> None:
    """All its sessions end, and the step says why instead of failing: a shell that fails is started again."""
    shell = Shell(other.key, rootfs, jail=jail, job=workspace.job_id).start()
    assert shell.ssh(LARGE_FILE.format(folder="/root")).returncode != 0
    shell.thread.join(60)
    assert json.loads(workspace.result("shell").read_text()) == {"result": DISK_FULL}
    assert f"the disk of {workspace.root} is almost full" in "\n".join(shell.log)


@pytest.mark.system
def test_build_fills_the_disk(workspace: Workspace, http_server: RepositoryServer) -> None:
    """A script of a recipe ends with its build."""
    shutil.copytree(RECIPES / "zypper", workspace.recipe)
    config = workspace.recipe / "config.xml"
    config.write_text(config.read_text().replace("{{ REPOSITORY }}", http_server.url))
    (workspace.recipe / "config.sh").write_text(f"#!/bin/sh\n{LARGE_FILE.format(folder='/etc')}\n")
    note_recipe(workspace)
    package = build_ca_package.run(build_ca_package.Input(workspace=workspace, package_manager="zypper"))
    data = {"workspace": str(workspace.root), "lineage": "x", "package_manager": "zypper", "ca_package": str(package)}
    assert_ends(workspace, lambda: StepProcess().run(build_image.STEP, data, "build", print))


def test_reason_of_the_job(service: Service, small: dict[str, Any], key: Key, tmp_path: Path) -> None:
    """The API gives the reason, and the shell of another job becomes an image."""
    with small_disk(service, tmp_path):
        other = customize(service, small, key, jail=True, build_env_size=SPACE)
        assert other["status"] == "waiting_on_user", other["reason"]
        fields = {"artifact_id": small["id"], "public_key_id": key.identity, "image_root_archive_name": "full"}
        script = f"#!/bin/sh\n{LARGE_FILE.format(folder='/etc')}\n"
        job = service.client.create("jobs", job_type="customize", script=script, build_env_size=SPACE, **fields)
        ended = service.wait(job["id"], timeout=180)
        assert (ended["status"], ended["failed_step"]) == ("error", "run_script"), ended["reason"]
        assert f"the disk of {service.settings.workspaces / job['id']}" in ended["reason"]
        ssh(other, key, "echo more >> /etc/motd; touch /tmp/complete")
        other = service.wait(other["id"])
        assert other["status"] == "success", other["reason"]
