"""Faults of a cluster during a job: the job continues, or it ends with the reason and leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pytest
from kubernetes.client import models as k8s

from ims import supervisord
from ims.jobs import workspace_id
from ims.runtime.kubernetes.runtime import KubernetesRuntime
from ims.settings import settings
from ims.stack import lifecycle
from tests.ceph import CephGateway
from tests.flows.conftest import RECIPES
from tests.flows.pods import SCRIPT, Cluster, require_own_node
from tests.flows.rpm_repository import RepositoryServer
from tests.flows.test_interrupted import push
from tests.flows.waiting import wait_for
from tests.node import STATE
from tests.running import command_of
from tests.service import ENDED, Service

pytestmark = pytest.mark.kubernetes

AWAY_SECONDS = 45
STEP = "resolve_packages"
"""A step for which a worker waits."""
_TASK = re.compile(rb"airflow worker -- [0-9a-f-]{36}")
ABSENT = "localhost/absent:1"


def started(
    service: Service, cluster: Cluster, server: RepositoryServer, folder: Path, script: str, **fields: Any
) -> dict[str, Any]:
    """Start a job; returns it when the script of its recipe runs."""
    recipe = push(service, server.url, folder / "recipe", script)
    job = service.create(recipe["id"], **fields)
    wait_for(lambda: cluster.builds(job["id"]) or _has_ended(service, job), 300, pause=1)
    assert not _has_ended(service, job), service.client.get(f"jobs/{job['id']}")["reason"]
    return job


def _is_running(service: Service, job: dict[str, Any], task: str) -> bool:
    steps = service.client.get(f"jobs/{job['id']}")["steps"]
    return any(step["state"] == "running" for step in steps if step["name"].startswith(task))


def _has_ended(service: Service, job: dict[str, Any]) -> bool:
    return service.client.get(f"jobs/{job['id']}")["status"] in ENDED


def assert_success(
    service: Service, cluster: Cluster, job: dict[str, Any], tries: int, step: str = "build_image"
) -> None:
    """Assert that the job succeeds after this number of tries of its build, and leaves nothing."""
    ended = service.wait(job["id"])
    assert ended["status"] == "success", ended["reason"]
    assert next(each["try_number"] for each in ended["steps"] if each["name"] == step) == tries
    cluster.assert_nothing_of(job["id"])


def test_pod_is_deleted(service: Service, cluster: Cluster, http_server: RepositoryServer, tmp_path: Path) -> None:
    """If a pod is deleted, its step is tried again."""
    job = started(service, cluster, http_server, tmp_path, "sleep 15")
    (pod,) = cluster.pods(job["id"], "build_image")
    cluster.core.delete_namespaced_pod(pod.metadata.name, cluster.namespace, grace_period_seconds=0)
    assert_success(service, cluster, job, tries=2)


def test_triggerer_restarts(service: Service, cluster: Cluster, http_server: RepositoryServer, tmp_path: Path) -> None:
    """The build continues while the triggerer restarts, and is not repeated."""
    job = started(service, cluster, http_server, tmp_path, "sleep 30")
    (pod,) = cluster.pods(job["id"], "build_image")
    supervisord.control(service.settings, "stop", "triggerer")
    (same,) = cluster.pods(job["id"], "build_image")
    assert same.metadata.uid == pod.metadata.uid
    supervisord.control(service.settings, "start", "triggerer")
    assert_success(service, cluster, job, tries=1)


def test_worker_killed(service: Service, cluster: Cluster, http_server: RepositoryServer) -> None:
    """If a worker is killed, the next try continues with the existing pod."""
    recipe = service.push(RECIPES / "zypper", "sles15", REPOSITORY=http_server.url)
    job = service.create(recipe["id"])
    pod = wait_for(lambda: next(iter(cluster.pods(job["id"], STEP)), None), 120)
    for task in wait_for(lambda: tasks(service)):
        os.kill(task, signal.SIGKILL)
    seen = {pod.metadata.uid}
    while not _has_ended(service, job):
        seen |= {pod.metadata.uid for pod in cluster.pods(job["id"], STEP)}
    assert_success(service, cluster, job, tries=2, step=STEP)
    assert seen == {pod.metadata.uid}


def tasks(service: Service) -> list[int]:
    """Return the processes of the running tasks of this installation."""
    scheduler = int(supervisord.control(service.settings, "pid", "scheduler"))
    return [pid for pid in children(scheduler) if _TASK.match(command_of(Path(f"/proc/{pid}")))]


def children(pid: int) -> list[int]:
    """Return all descendants of a process."""
    direct = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return direct + [below for child in direct for below in children(child)]


@pytest.mark.alone
@pytest.mark.parametrize("daemon", ["kube-apiserver", "kubelet"])
def test_daemon_is_away(
    service: Service, cluster: Cluster, http_server: RepositoryServer, tmp_path: Path, daemon: str
) -> None:
    """During an outage of most of a minute, the build continues, or the task watches it again afterwards."""
    require_own_node()
    job = started(service, cluster, http_server, tmp_path, "sleep 30")
    switch = STATE / "held" / daemon
    switch.touch()
    time.sleep(AWAY_SECONDS)
    switch.unlink()
    assert_success(service, cluster, job, tries=1)


def test_s3_is_away(
    service: Service, cluster: Cluster, gateway: CephGateway | None, http_server: RepositoryServer, tmp_path: Path
) -> None:
    """If S3 does not answer when the artifacts must be uploaded, the upload waits for its credentials."""
    job = started(service, cluster, http_server, tmp_path, "sleep 5")
    control_s3(service, gateway, "stop")
    try:
        wait_for(lambda: _is_running(service, job, "upload_artifacts"), 300, pause=1)
        time.sleep(AWAY_SECONDS)
    finally:
        control_s3(service, gateway, "start")
    assert_success(service, cluster, job, tries=1)


def control_s3(service: Service, gateway: CephGateway | None, action: Literal["start", "stop"]) -> None:
    """Start or stop Ceph's gateway, or the embedded S3."""
    if gateway is None:
        supervisord.control(service.settings, action, "s3")
    elif action == "stop":
        gateway.stop()
    else:
        gateway.start()


def test_volume_is_full(service: Service, cluster: Cluster, http_server: RepositoryServer, tmp_path: Path) -> None:
    """The volume has the size that the job requested. If it is full, the reason names the field for the size."""
    script = "sleep 3; dd if=/dev/zero of=/large bs=1M count=1100"
    job = started(service, cluster, http_server, tmp_path, script, build_env_size=1)
    ended = service.wait(job["id"])
    assert (ended["status"], ended["failed_step"]) == ("error", "build_image")
    assert "full" in ended["reason"]
    assert "build_env_size" in ended["reason"]
    cluster.assert_nothing_of(job["id"])


def test_image_is_missing(
    service: Service, cluster: Cluster, configure: Callable[..., None], http_server: RepositoryServer
) -> None:
    """The job ends within minutes, and the reason names the container image."""
    recipe = service.push(RECIPES / "zypper", "sles15", REPOSITORY=http_server.url)
    configure(kubernetes_image=ABSENT)
    _restart()
    try:
        job = service.create(recipe["id"])
        ended = service.wait(job["id"], timeout=300)
    finally:
        configure(kubernetes_image=service.settings.kubernetes_image)
        _restart()
    assert (ended["status"], ended["failed_step"]) == ("error", "fetch_recipe")
    assert ABSENT in ended["reason"], ended["reason"]
    cluster.assert_nothing_of(job["id"])


def _restart() -> None:
    """Restart the service with the current settings."""
    lifecycle.down(settings())
    lifecycle.up(settings(), print)


def test_cancelled_in_the_ui(service: Service, cluster: Cluster, http_server: RepositoryServer, tmp_path: Path) -> None:
    """If a user marks the run as failed, the pod ends."""
    job = started(service, cluster, http_server, tmp_path, "sleep 600")
    path = f"/api/v2/dags/{job['dag_id']}/dagRuns/{job['dag_run_id']}"
    assert service.http.patch(path, json={"state": "failed"}).status_code == 200
    ended = service.wait(job["id"])
    assert (ended["status"], ended["failed_step"]) == ("error", "build_image")
    cluster.assert_nothing_of(job["id"])


def test_out_of_memory(service: Service, cluster: Cluster, http_server: RepositoryServer, tmp_path: Path) -> None:
    """The reason names the field that limits the memory."""
    job = started(
        service,
        cluster,
        http_server,
        tmp_path,
        "sleep 3; dd if=/dev/zero of=/dev/null bs=1900M count=1",
        job_mem_size=1,
    )
    ended = service.wait(job["id"])
    assert (ended["status"], ended["failed_step"]) == ("error", "build_image")
    assert "memory" in ended["reason"], ended["reason"]
    assert "job_mem_size" in ended["reason"]
    cluster.assert_nothing_of(job["id"])


def test_log_comes_while_it_builds(
    service: Service, cluster: Cluster, http_server: RepositoryServer, tmp_path: Path
) -> None:
    """The log is available during the build, although no worker waits for it after the first 20 seconds."""
    job = started(service, cluster, http_server, tmp_path, "sleep 45")

    def is_deferred() -> bool:
        steps = {step["name"]: step["state"] for step in service.client.get(f"jobs/{job['id']}")["steps"]}
        return bool(steps["build_image"] == "deferred")

    wait_for(is_deferred, 40, pause=1)
    path = f"/apis/ims/v3/jobs/{job['id']}/logs/build_image"
    wait_for(lambda: SCRIPT in service.http.get(path).text, 15, pause=1)
    assert service.client.get(f"jobs/{job['id']}")["status"] == "building_image"
    assert service.wait(job["id"])["status"] == "success"
    assert service.http.get(path).text.count(SCRIPT) == 1


def test_failed_pods_are_kept(cluster: Cluster, configure: Callable[..., None]) -> None:
    """With the setting, failed pods are kept until the maintenance deletes them."""
    configure(kubernetes_keep_failed="true")
    job, workspaces = str(uuid4()), KubernetesRuntime()
    workspace = workspace_id("create_image", job)
    workspaces.open_workspace(workspace, 1)
    claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=f"ims-{workspace}")
    for name, command in (("failed", "false"), ("works", "sleep 600")):
        container = k8s.V1Container(
            name="step",
            image=settings().kubernetes_image,
            command=["sh", "-c", command],
            volume_mounts=[k8s.V1VolumeMount(name="workspace", mount_path="/mnt")],
        )
        spec = k8s.V1PodSpec(
            restart_policy="Never",
            containers=[container],
            volumes=[k8s.V1Volume(name="workspace", persistent_volume_claim=claim)],
        )
        labels = {"ims.job": workspace, "ims.step": name, "app.kubernetes.io/part-of": "ims"}
        pod = k8s.V1Pod(metadata=k8s.V1ObjectMeta(name=f"{name}-{job}", labels=labels), spec=spec)
        cluster.core.create_namespaced_pod(cluster.namespace, pod)
    wait_for(lambda: {pod.status.phase for pod in cluster.pods(job)} == {"Failed", "Running"})
    workspaces.close_workspace(workspace)
    time.sleep(1)
    assert [pod.metadata.labels["ims.step"] for pod in cluster.pods(job)] == ["failed"]
    (found,) = (item for item in workspaces.leftovers(set, -1) if item.name == workspace)
    found.remove()
    cluster.assert_nothing_of(job)
