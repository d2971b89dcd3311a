"""Jobs on Kubernetes: a volume each, and what a cluster says of pods that do not do what they should."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError
from yaml import YAMLError

from ims.cleaning import Finding
from ims.errors import ConfigurationError, ImsError, InputError, UnavailableError
from ims.runtime import pods
from ims.settings import settings

CLOSE_SECONDS = 120
PATIENCE_SECONDS = 300
GONE = ("the step's pod is gone", "Somebody deleted it, or its node is lost")


def core_api() -> client.CoreV1Api:
    """The cluster that the settings name, or the one that this process runs in.

    Raises ConfigurationError: there is none.
    """
    path = settings().kubernetes_config
    try:
        if path is not None:
            return client.CoreV1Api(config.new_client_from_config(str(path)))
        config.load_incluster_config()
    except (ConfigException, OSError, YAMLError) as error:
        where = f"the kubeconfig {path} cannot be used" if path is not None else "this is no pod of a cluster"
        raise ConfigurationError(f"{where}: {error}", "Set IMS_KUBERNETES_CONFIG to a kubeconfig") from None
    return client.CoreV1Api()


def await_cluster(seconds: float = PATIENCE_SECONDS) -> None:
    """Return when the cluster answers, whatever it says. Raises UnavailableError: it did not, so many seconds long."""
    version, deadline = client.VersionApi(core_api().api_client), time.monotonic() + seconds
    while True:
        try:
            with cluster_errors():
                version.get_code(_request_timeout=10)
            return
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
        except ImsError:
            return
        time.sleep(1)


class KubernetesWorkspaces:
    """Keeps the workspaces of jobs as volumes. Steps run as pods, which Airflow's own operator starts."""

    def __init__(self) -> None:
        self._namespace = settings().kubernetes_namespace
        self._core = core_api()

    def open_workspace(self, job_id: str, size_gib: int) -> Path:
        """Make an empty volume for a job; returns where its steps see it. Raises ImsError."""
        self.close_workspace(job_id)
        claim = k8s.V1PersistentVolumeClaim(
            metadata=k8s.V1ObjectMeta(name=pods.volume_name(job_id), labels=pods.labels(job_id, "workspace")),
            spec=k8s.V1PersistentVolumeClaimSpec(
                access_modes=["ReadWriteOnce"],
                storage_class_name=settings().kubernetes_storage_class,
                resources=k8s.V1VolumeResourceRequirements(requests={"storage": f"{size_gib}Gi"}),
            ),
        )
        with cluster_errors():
            self._core.create_namespaced_persistent_volume_claim(self._namespace, claim)
        return Path(pods.workspace(job_id))

    def close_workspace(self, job_id: str) -> None:
        """Remove the services and the volume of a job, and its pods but those that the settings keep.

        None there is no error. A pod that is kept keeps the volume: Kubernetes removes it after its last pod.
        """
        keeps, mine = settings().kubernetes_keep_failed, _of_job(job_id)
        self._remove(job_id, "status.phase!=Failed" if keeps else "")
        with cluster_errors():
            deadline = time.monotonic() + CLOSE_SECONDS
            while self._claims(mine) and not (keeps and self._pods(mine)):
                if time.monotonic() > deadline:
                    raise ImsError(
                        f"the volume {pods.volume_name(job_id)} is not removed", "A pod holds it: kubectl get pods"
                    )
                time.sleep(0.5)

    def _remove(self, job_id: str, which_pods: str = "") -> None:
        """Ask for the removal of all that is a job's, of its pods those of the field selector `which_pods`."""
        mine = _of_job(job_id)
        with cluster_errors():
            self._core.delete_collection_namespaced_pod(
                self._namespace, grace_period_seconds=0, field_selector=which_pods, **mine
            )
            for service in self._core.list_namespaced_service(self._namespace, **mine).items:
                self._core.delete_namespaced_service(service.metadata.name, self._namespace)
            self._core.delete_collection_namespaced_persistent_volume_claim(self._namespace, **mine)

    def _claims(self, which: dict[str, str]) -> list[k8s.V1PersistentVolumeClaim]:
        return list(self._core.list_namespaced_persistent_volume_claim(self._namespace, **which).items)

    def _pods(self, which: dict[str, str]) -> list[k8s.V1Pod]:
        return list(self._core.list_namespaced_pod(self._namespace, **which).items)

    def leftovers(self, running: Callable[[], Collection[str]], hours: int) -> list[Finding]:
        """What ended jobs left in the namespace; see `ims.runtime.choice`. Caches go with their job's volume."""
        ours = {"label_selector": f"{pods.PART_OF}=ims"}
        newest: dict[str, datetime] = {}
        sizes: dict[str, int] = {}
        with cluster_errors():
            claims = self._claims(ours)
            found = self._pods(ours) + self._core.list_namespaced_service(self._namespace, **ours).items
        for item in (*claims, *found):
            job, made = item.metadata.labels.get("ims.job"), item.metadata.creation_timestamp
            if job is not None:
                newest[job] = max(made, newest.get(job, made))
        for claim in claims:
            sizes[claim.metadata.labels.get("ims.job")] = _bytes(claim.spec.resources.requests["storage"])
        jobs, until = set(running()), datetime.now(UTC) - timedelta(hours=hours)
        return [
            Finding("workspaces", job, sizes.get(job, 0), partial(self._sweep, job))
            for job, made in newest.items()
            if job not in jobs and made < until
        ]

    def _sweep(self, job_id: str) -> bool:
        self._remove(job_id)
        return True


def _of_job(job_id: str) -> dict[str, str]:
    return {"label_selector": f"ims.job={job_id}"}


@contextmanager
def cluster_errors() -> Iterator[None]:
    """What a cluster answers as our errors: wrong, forbidden, or not there for now."""
    try:
        yield
    except ApiException as error:
        said = _message(error)
        if error.status == 403 and "quota" in said:
            raise UnavailableError(
                f"the cluster has no room: {said}", "Wait for other jobs, or raise the quota"
            ) from None
        if error.status in (401, 403):
            raise ConfigurationError(f"the cluster refuses: {said}", "See the RBAC rules in deploy/") from None
        if error.status == 404 and said.startswith("pods "):
            raise UnavailableError(*GONE) from None
        if error.status is not None and 400 <= error.status < 500 and error.status not in (408, 409, 429):
            raise InputError(f"the cluster does not take it: {said}") from None
        raise UnavailableError(f"the cluster does not do it: {said}") from None
    except (OSError, HTTPError) as error:
        raise UnavailableError(f"the cluster does not answer: {error}") from None


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"


def explain(pod: k8s.V1Pod) -> str | None:
    """Why a pod failed, or does not start, in one sentence; None if it says nothing."""
    status = pod.status
    if status.reason:  # Evicted, NodeLost, OutOfmemory and the like; a pod that ended by itself has none
        return f"the pod was ended by its node ({status.reason}): {status.message or 'no reason given'}"
    for condition in status.conditions or []:
        if condition.type == "DisruptionTarget" and condition.status == "True":
            return f"the pod was ended by the cluster ({condition.reason}): {condition.message or 'no reason given'}"
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"no node takes the pod: {condition.message}"
    for state in _states(pod):
        if state.waiting is not None and state.waiting.reason not in ("ContainerCreating", "PodInitializing"):
            return f"the pod does not start ({state.waiting.reason}): {state.waiting.message or ''}".rstrip(": ")
        if state.terminated is not None and state.terminated.reason == "OOMKilled":
            return "the step used more memory than its limit and was killed; set job_mem_size"
    if status.phase == "Pending":
        return "the pod does not start: a volume, Secret or ConfigMap of it may be missing; see kubectl describe pod"
    return None


def outcome(pod: k8s.V1Pod) -> tuple[int | None, dict[str, Any]]:
    """The exit code of a pod's step, or of its last try, and what it left as its last message, {error, hint}."""
    for status in pod.status.container_statuses or []:
        ended = status.state.terminated or (status.last_state and status.last_state.terminated)
        if status.name == pods.CONTAINER and ended is not None:
            try:
                said = json.loads(ended.message or "{}")
            except ValueError:
                said = {}
            return ended.exit_code, said if isinstance(said, dict) else {}
    return None, {}


def _bytes(quantity: str) -> int:
    """The size of a volume as `open_workspace` asks for it."""
    return int(quantity.removesuffix("Gi")) * 1024**3 if quantity.endswith("Gi") else 0


def _states(pod: k8s.V1Pod) -> Iterator[k8s.V1ContainerState]:
    for status in [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]:
        yield status.state
