"""The pods of jobs in the cluster of KUBECONFIG, as its administrator sees them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kubernetes import client, config
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

from ims.jobs import workspace_id
from tests.flows.waiting import wait_for
from tests.node import STATE

SCRIPT = "Calling config.sh script"
"""The line that kiwi-ng logs when it starts a recipe's script. The output of the script follows at its end."""


class Cluster:
    """The cluster as its administrator sees it."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.core = client.CoreV1Api(config.new_client_from_config(os.environ["KUBECONFIG"]))

    def pods(self, job_id: str, step: str | None = None) -> list[k8s.V1Pod]:
        """Return the pods of a job, or of one step of it."""
        selector = _of_job(job_id) + (f",ims.step={step}" if step is not None else "")
        return list(self.core.list_namespaced_pod(self.namespace, label_selector=selector).items)

    def builds(self, job_id: str) -> k8s.V1Pod | None:
        """Return the pod that builds the image of a job as soon as the recipe's script runs."""
        return next((pod for pod in self.pods(job_id, "build_image") if SCRIPT in self._log(pod)), None)

    def _log(self, pod: k8s.V1Pod) -> str:
        try:
            return str(self.core.read_namespaced_pod_log(pod.metadata.name, self.namespace, container="step"))
        except ApiException:  # the pod has not started, or does not exist any more
            return ""

    def assert_nothing_of(self, job_id: str) -> None:
        """Assert that a job has no pod, Service or volume claim."""
        selector = {"label_selector": _of_job(job_id)}
        wait_for(lambda: not self.pods(job_id), 30)
        assert self.core.list_namespaced_service(self.namespace, **selector).items == []
        assert self.core.list_namespaced_persistent_volume_claim(self.namespace, **selector).items == []


def _of_job(job_id: str) -> str:
    """Selects what belongs to the workspace of a job."""
    return f"ims.job in ({workspace_id('create_image', job_id)},{workspace_id('customize_image', job_id)})"


def require_own_node() -> None:
    """Skip a test that needs a cluster without other users."""
    if Path(os.environ["KUBECONFIG"]) != STATE / "admin.conf":
        pytest.skip("needs make test-node")
