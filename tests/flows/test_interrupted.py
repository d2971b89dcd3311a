"""Jobs that are stopped half-way: cancelled, their worker killed, S3 away. Nothing is left, or the job goes on."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import RECIPES
from tests.flows.leftovers import Leftovers, processes
from tests.flows.rpm_repository import RepositoryServer
from tests.service import Service


@pytest.fixture
def slow_recipe(service: Service, http_server: RepositoryServer, tmp_path: Path) -> dict[str, Any]:
    """A recipe whose build stays in config.sh until it is stopped."""
    folder = shutil.copytree(RECIPES / "zypper", tmp_path / "slow")
    (folder / "config.sh").write_text("#!/bin/sh\nsleep 600 & sleep 600\n")
    return service.push(folder, "sles15", REPOSITORY=http_server.url)


def wait_for(condition: Callable[[], Any], timeout: float = 120) -> Any:
    """What `condition` gives as soon as that is true."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.2)
    raise TimeoutError


def builds(service: Service) -> set[str]:
    """Command lines of builds that have come to the recipe's script."""
    return {command for command in processes(service.settings.home) if "/image/config.sh" in command}


def test_cancelled_in_the_ui(service: Service, slow_recipe: dict[str, Any], leftovers: Leftovers) -> None:
    """Marking the run failed, as the UI does, ends the build and everything it started."""
    job = service.create(slow_recipe["id"])
    wait_for(lambda: builds(service))
    answer = service.http.patch(f"/api/v2/dags/{job['dag_id']}/dagRuns/{job['dag_run_id']}", json={"state": "failed"})
    assert answer.status_code == 200
    ended = service.wait(job["id"])
    assert ended["status"] == "error"
    assert ended["failed_step"] == "build_image"
    leftovers.assert_none(job["id"])


def test_worker_killed(service: Service, slow_recipe: dict[str, Any], leftovers: Leftovers) -> None:
    """When the task's process is killed the build dies with it; Airflow notices, and the job can be cancelled."""
    job = service.create(slow_recipe["id"])
    wait_for(lambda: builds(service))
    launcher = next(
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"ims.runtime.inside\0build_image" in path.read_bytes() and path.read_bytes().startswith(b"unshare")
    )
    worker = int(Path(f"/proc/{launcher}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not builds(service), 10)
    service.client.delete(f"jobs/{job['id']}")
    assert service.wait(job["id"])["status"] == "error"
    leftovers.assert_none(job["id"])
