"""Workspaces as volumes of a cluster, and what ended jobs leave in its namespace."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from kubernetes import client
from kubernetes.client import models as k8s

from ims.cleaning import Finding
from ims.errors import ImsError
from ims.runtime.kubernetes import pods
from ims.runtime.kubernetes.cluster import cluster_errors
from ims.settings import settings

CLOSE_SECONDS = 120


class Workspaces:
    """The volumes of jobs, and everything else in the namespace that belongs to a job."""

    def __init__(self, core: client.CoreV1Api) -> None:
        self._core = core
        self._namespace = settings().kubernetes_namespace

    def open(self, job_id: str, size_gib: int) -> Path:
        """Create an empty volume for a job; returns the path at which its steps see it. Raises ImsError."""
        self.close(job_id)
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

    def close(self, job_id: str) -> None:
        """Remove the pods, services and the volume of a job, and wait until the volume is gone.

        If the settings keep failed pods, these stay, and the volume with them: Kubernetes removes a volume after the
        last pod that uses it. Raises ImsError if the volume is still there after CLOSE_SECONDS.
        """
        keeps_failed, of_job = settings().kubernetes_keep_failed, _of_job(job_id)
        self._delete_all(job_id, "status.phase!=Failed" if keeps_failed else "")
        with cluster_errors():
            deadline = time.monotonic() + CLOSE_SECONDS
            while self._claims(of_job) and not (keeps_failed and self._pods(of_job)):
                if time.monotonic() > deadline:
                    raise ImsError(
                        f"the volume {pods.volume_name(job_id)} is not removed", "A pod uses it: kubectl get pods"
                    )
                time.sleep(0.5)

    def leftovers(self, running_jobs: Callable[[], Collection[str]], hours: int) -> list[Finding]:
        """Returns what ended jobs left in the namespace. Caches need no sweeping: they are in the volumes."""
        ours = {"label_selector": f"{pods.PART_OF}=ims"}
        newest: dict[str, datetime] = {}
        with cluster_errors():
            claims = self._claims(ours)
            others = self._pods(ours) + self._core.list_namespaced_service(self._namespace, **ours).items
        for item in (*claims, *others):
            job, created = item.metadata.labels.get(pods.JOB), item.metadata.creation_timestamp
            if job is not None:
                newest[job] = max(created, newest.get(job, created))
        sizes = {item.metadata.labels.get(pods.JOB): _bytes(item.spec.resources.requests["storage"]) for item in claims}
        jobs, until = set(running_jobs()), datetime.now(UTC) - timedelta(hours=hours)
        return [
            Finding("workspaces", job, sizes.get(job, 0), partial(self._sweep, job))
            for job, created in newest.items()
            if job not in jobs and created < until
        ]

    def _sweep(self, job_id: str) -> bool:
        self._delete_all(job_id)
        return True

    def _delete_all(self, job_id: str, which_pods: str = "") -> None:
        """Request the deletion of everything that belongs to a job; of its pods, those that a field selector names."""
        of_job = _of_job(job_id)
        with cluster_errors():
            self._core.delete_collection_namespaced_pod(
                self._namespace, grace_period_seconds=0, field_selector=which_pods, **of_job
            )
            for service in self._core.list_namespaced_service(self._namespace, **of_job).items:
                self._core.delete_namespaced_service(service.metadata.name, self._namespace)
            self._core.delete_collection_namespaced_persistent_volume_claim(self._namespace, **of_job)

    def _claims(self, selector: dict[str, str]) -> list[k8s.V1PersistentVolumeClaim]:
        return list(self._core.list_namespaced_persistent_volume_claim(self._namespace, **selector).items)

    def _pods(self, selector: dict[str, str]) -> list[k8s.V1Pod]:
        return list(self._core.list_namespaced_pod(self._namespace, **selector).items)


def _of_job(job_id: str) -> dict[str, str]:
    return {"label_selector": f"{pods.JOB}={job_id}"}


def _bytes(quantity: str) -> int:
    """The size of a volume, in the notation that `Workspaces.open` uses for its request."""
    return int(quantity.removesuffix("Gi")) * 1024**3 if quantity.endswith("Gi") else 0
