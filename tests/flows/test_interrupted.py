"""Interrupted jobs: a cancellation, a killed worker, an outage of S3. They leave nothing, or continue."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ims import supervisord
from ims.stack import lifecycle
from ims.storage.objects import ObjectName
from tests.flows.conftest import RECIPES
from tests.flows.leftovers import Leftovers, processes
from tests.flows.rpm_repository import RepositoryServer
from tests.flows.waiting import wait_for
from tests.running import command_of
from tests.service import Service


def push(service: Service, url: str, folder: Path, script: str) -> dict[str, Any]:
    """Push the zypper recipe of the tests with another config.sh; returns the record."""
    shutil.copytree(RECIPES / "zypper", folder)
    (folder / "config.sh").write_text(f"#!/bin/sh\n{script}\n")
    return service.push(folder, "sles15", REPOSITORY=url)


def builds(service: Service) -> set[str]:
    """Return the command lines of builds that run the script of the recipe."""
    return {command for command in processes(service.settings.home) if "/image/config.sh" in command}


def started_with(home: str) -> set[str]:
    """Return the command lines of other processes whose environment names the installation."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if home.encode() in path.read_bytes() and path.parent.name != str(os.getpid()):
                found.add(path.with_name("cmdline").read_text())
    return found


def test_cancelled_in_the_ui(
    service: Service, http_server: RepositoryServer, tmp_path: Path, leftovers: Leftovers
) -> None:
    """If a user marks the run as failed, as in the UI, the build and all its processes end."""
    recipe = push(service, http_server.url, tmp_path / "recipe", "sleep 600 & sleep 600")
    job = service.create(recipe["id"])
    wait_for(lambda: builds(service))
    answer = service.http.patch(f"/api/v2/dags/{job['dag_id']}/dagRuns/{job['dag_run_id']}", json={"state": "failed"})
    assert answer.status_code == 200
    ended = service.wait(job["id"])
    assert ended["status"] == "error"
    assert service.run_state(ended) == "failed"
    assert ended["failed_step"] == "build_image"
    assert ended["reason"].startswith("cancelled by admin at ")
    leftovers.assert_none(job["id"])


def parent(pid: int) -> int:
    """Return the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def task_process(service: Service, job: dict[str, Any]) -> int:
    """Return the process of the task that builds the image of a job. Its parent is a worker of the scheduler."""
    path = f"/api/v2/dags/{job['dag_id']}/dagRuns/{job['dag_run_id']}/taskInstances/build_image"
    title = f"airflow worker -- {service.http.get(path).json()['id']}".encode()
    found = (process for process in Path("/proc").glob("[0-9]*") if command_of(process).rstrip(b"\0 ") == title)
    return int(next(found).name)


def test_task_killed_and_s3_away(
    service: Service, http_server: RepositoryServer, tmp_path: Path, leftovers: Leftovers
) -> None:
    """A job survives both.

    If the process of the task is killed, its build ends and the task is tried again. If S3 is stopped when the
    artifacts must be uploaded, the job waits for it.
    """
    recipe = push(service, http_server.url, tmp_path / "recipe", "sleep 5")
    job = service.create(recipe["id"])
    wait_for(lambda: builds(service))
    os.kill(task_process(service, job), signal.SIGKILL)
    wait_for(lambda: not builds(service), 3)
    wait_for(lambda: builds(service))
    supervisord.control(service.settings, "stop", "s3")
    wait_for(lambda: service.client.get(f"jobs/{job['id']}")["status"] == "packaging_artifacts")
    time.sleep(15)
    supervisord.control(service.settings, "start", "s3")
    ended = service.wait(job["id"])
    assert ended["status"] == "success", ended["reason"]
    assert next(step for step in ended["steps"] if step["name"] == "build_image")["try_number"] == 2
    assert_nothing_left(service, leftovers)


def assert_nothing_left(service: Service, leftovers: Leftovers) -> None:
    """Assert that a job that succeeded left only its image and its record."""
    after = Leftovers(service).before
    for kind in ("mounts", "loop devices", "processes", "uploads"):
        assert after[kind] == leftovers.before[kind]


def idle_workers(of: int) -> list[int]:
    """Return the idle workers of a scheduler; those of schedulers that have ended belong to process 1."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            pid = int(path.parent.name)
            if path.read_bytes().startswith(b"airflow worker -- LocalExecutor: <idle>") and parent(pid) == of:
                found.append(pid)
    return found


def test_scheduler_killed(
    service: Service, http_server: RepositoryServer, tmp_path: Path, leftovers: Leftovers
) -> None:
    """A build goes on if the scheduler is killed: it is not started again. The next step waits for no timeout."""
    recipe = push(service, http_server.url, tmp_path / "recipe", "sleep 20")
    job = service.create(recipe["id"])
    wait_for(lambda: builds(service))
    os.kill(int(supervisord.control(service.settings, "pid", "scheduler")), signal.SIGKILL)
    wait_for(lambda: not idle_workers(of=1), 10)
    ended = service.wait(job["id"])
    assert ended["status"] == "success", ended["reason"]
    steps = {step["name"]: step for step in ended["steps"]}
    assert steps["build_image"]["try_number"] == 1
    pause = datetime.fromisoformat(steps["package_artifacts"]["started"]) - datetime.fromisoformat(
        steps["build_image"]["ended"]
    )
    assert pause < timedelta(seconds=30)
    assert_nothing_left(service, leftovers)


def test_restart_of_the_stack(
    service: Service, small: dict[str, Any], http_server: RepositoryServer, tmp_path: Path
) -> None:
    """`down` leaves no process and nothing that listens. After `up`, records, objects and runs are as before.

    A recipe that was pushed before can be built, although all workers are killed meanwhile: the build ends, and is
    tried again by another worker at once.
    """
    recipe = push(service, http_server.url, tmp_path / "recipe", "sleep 5")
    job = service.wait(service.create(service.register(service.upload_recipe(b"no archive"))["id"])["id"])
    lifecycle.down(service.settings)
    assert started_with(str(service.settings.home)) == set()
    for port in (service.settings.port, service.settings.s3_port):
        with socket.socket() as probe:
            assert probe.connect_ex((service.settings.host, port)) != 0
    lifecycle.up(service.settings, print)
    assert service.client.get(f"jobs/{job['id']}") == job
    assert service.client.get(f"images/{small['id']}") == small
    assert service.store.stat(ObjectName.parse(small["link"]["path"])).size > 0
    build = service.create(recipe["id"])
    wait_for(lambda: builds(service))
    worker = parent(task_process(service, build))
    for pid in (worker, *idle_workers(of=parent(worker))):
        os.kill(pid, signal.SIGKILL)
    killed = datetime.now(UTC)
    wait_for(lambda: not builds(service), 3)
    ended = service.wait(build["id"])
    assert ended["status"] == "success", ended["reason"]
    step = next(step for step in ended["steps"] if step["name"] == "build_image")
    assert step["try_number"] == 2
    assert datetime.fromisoformat(step["started"]) - killed < timedelta(minutes=2)  # Airflow alone: five minutes
