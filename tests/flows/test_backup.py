"""A drill: a service is backed up while it works, and restored in a place without state."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ims.client import ImsClient
from ims.stack.environment import s3_environment
from ims.storage.objects import ObjectName
from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import RepositoryServer
from tests.flows.waiting import wait_for
from tests.ports import free_ports
from tests.service import Service

KINDS = ("recipes", "images", "public-keys", "deleted/recipes", "deleted/images", "deleted/public-keys")


def run(environment: Mapping[str, str], *command: str, code: int = 0) -> str:
    """Run a program of the environment of Python with these variables; returns what it prints."""
    line = [str(Path(sys.executable).with_name(command[0])), *command[1:]]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def other(service: Service) -> Iterator[dict[str, str]]:
    """The variables of a second installation, with a home of its own and the S3 of the first."""
    home = tempfile.mkdtemp(prefix="ims-test-", dir="/var/lib")
    variables = {
        **os.environ,
        **s3_environment(service.settings, service.credentials),
        "IMS_S3_ENDPOINT_URL": service.settings.endpoint_url,
        "IMS_STS_ROLE": service.settings.step_role_arn or "",
        "IMS_STS_READ_ROLE": service.settings.sts_read_role_arn or "",
        "IMS_HOME": home,
        "IMS_PORT": str(free_ports(1)[0]),
    }
    yield variables
    run(variables, "python", "-m", "ims.stack", "down")
    shutil.rmtree(home)


def everything(records: ImsClient) -> dict[str, Any]:
    """All records and tombstones."""
    return {kind: records.get(kind) for kind in KINDS}


def test_drill(service: Service, http_server: RepositoryServer, tmp_path: Path, other: dict[str, str]) -> None:
    """The restored service has the same records, users and history, and its jobs end. S3 is compared with the list."""
    shutil.copytree(RECIPES / "zypper", tmp_path / "recipe")
    (tmp_path / "recipe" / "config.sh").write_text("#!/bin/sh\nsleep 600\n")
    recipe = service.push(tmp_path / "recipe", "sles15", REPOSITORY=http_server.url)
    job = service.create(recipe["id"])
    wait_for(lambda: service.client.get(f"jobs/{job['id']}")["status"] == "building_image")
    backup = tmp_path / "backup"
    run(os.environ, "ims", "backup", str(backup))
    before = everything(service.client)
    service.http.delete(f"/apis/ims/v3/jobs/{job['id']}")

    run(other, "ims", "restore", str(backup))
    run(other, "python", "-m", "ims.stack", "up")
    user, password = service.settings.admin_user, service.credentials.admin_password
    restored = ImsClient.login(f"http://127.0.0.1:{other['IMS_PORT']}", user, password)
    assert everything(restored) == before
    wait_for(lambda: restored.get(f"jobs/{job['id']}")["status"] == "error", 120)
    assert restored.get(f"jobs/{job['id']}")["reason"]
    assert restored.get("audit", record_id=recipe["id"])[0]["action"] == "create"

    assert run(other, "ims", "restore", "--check", str(backup)).count("\n") == 1
    service.store.delete(ObjectName.parse(recipe["link"]["path"]))
    shown = run(other, "ims", "restore", "--check", str(backup), code=1)
    assert recipe["link"]["path"] in shown
    assert "missing" in shown
    service.purge("recipes", recipe["id"])
