"""The debug shell of `create_image`, on the image root of a failed build.

tests/flows/test_bad_input.py tests that no debug shell opens if the job did not ask for it or has no image root.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.flows.conftest import RECIPES
from tests.flows.leftovers import Leftovers
from tests.flows.rpm_repository import RepositoryServer
from tests.flows.shells import Key, ssh
from tests.service import Service

OPEN = ("waiting_on_user", "error", "success")


@pytest.fixture
def broken(service: Service, http_server: RepositoryServer, tmp_path: Path) -> str:
    """The id of a recipe whose config.sh fails after the packages are installed."""
    shutil.copytree(RECIPES / "zypper", tmp_path / "recipe")
    (tmp_path / "recipe" / "config.sh").write_text("#!/bin/sh\necho the build was here > /etc/trace\nexit 1\n")
    return str(service.push(tmp_path / "recipe", "sles15", REPOSITORY=http_server.url)["id"])


def test_build_that_fails(service: Service, broken: str, key: Key, leftovers: Leftovers) -> None:
    """The shell shows the image root and the log of kiwi. When the user finishes it, the job ends in error."""
    job = service.create(broken, enable_debug=True, public_key_id=key.identity)
    job = service.wait(job["id"], until=OPEN)
    assert job["status"] == "waiting_on_user", job
    shell = job["ssh_containers"][0]
    assert (shell["name"], shell["jail"], shell["status"]) == ("debug", False, "active")
    assert ssh(job, key, "cat /mnt/image/image-root/etc/trace") == "the build was here\n"
    assert "config.sh" in ssh(job, key, "cat /mnt/image/kiwi.log")
    ssh(job, key, "touch /mnt/image/complete")
    ended = service.wait(job["id"])
    assert (ended["status"], ended["failed_step"]) == ("error", "build_image")
    assert "config.sh" in ended["reason"]
    leftovers.assert_none(job["id"])


def test_packing_that_fails(service: Service, http_server: RepositoryServer, key: Key, leftovers: Leftovers) -> None:
    """If the image lacks the kernel, a debug shell opens, too."""
    recipe = service.push(RECIPES / "zypper", "sles15", REPOSITORY=http_server.url)
    fields = {"enable_debug": True, "public_key_id": key.identity, "kernel_file_name": "bzImage"}
    job = service.wait(service.create(recipe["id"], **fields)["id"], until=OPEN)
    assert job["status"] == "waiting_on_user", job
    assert "initrd" in ssh(job, key, "ls /mnt/image/image-root/boot")
    service.client.create(f"jobs/{job['id']}/shell", operation="complete")
    ended = service.wait(job["id"])
    assert (ended["status"], ended["failed_step"]) == ("error", "package_artifacts")
    leftovers.assert_none(job["id"])


def test_cancelled_while_open(service: Service, broken: str, leftovers: Leftovers) -> None:
    """Cancelling the job closes the shell."""
    job = service.wait(service.create(broken, enable_debug=True)["id"], until=OPEN)
    service.client.delete(f"jobs/{job['id']}")
    ended = service.wait(job["id"])
    assert (ended["status"], ended["failed_step"]) == ("error", "build_image")
    leftovers.assert_none(job["id"])
