"""The pods of jobs in the cluster of KUBECONFIG, as its administrator sees them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kubernetes import client, config
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

from tests.flows.waiting import wait_for
from tests.node import STATE

SCRIPT = "Calling config.sh script"
"""What kiwi-ng says when it runs a recipe's script; what that prints comes when it has ended."""


class Cluster:
    """The cluster as its administrator sees it."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.core = client.CoreV1Api(config.new_client_from_config(os.environ["KUBECONFIG"]))

    def pods(self, job_id: str, step: str | None = None) -> list[k8s.V1Pod]:
        """Those of a job, or of one step of it."""
        selector = f"ims.job={job_id}" + (f",ims.step={step}" if step is not None else "")
        return list(self.core.list_namespaced_pod(self.namespace, label_selector=selector).items)

    def builds(self, job_id: str) -> k8s.V1Pod | None:
        """The pod that builds a job's image, when the recipe's script runs."""
        return next((pod for pod in self.pods(job_id, "build_image") if SCRIPT in self._log(pod)), None)

    def _log(self, pod: k8s.V1Pod) -> str:
        try:
            return str(self.core.read_namespaced_pod_log(pod.metadata.name, self.namespace, container="step"))
        except ApiException:  # it has not begun, or is gone
            return ""

    def assert_nothing_of(self, job_id: str) -> None:
        """No pod, service or volume claim of a job."""
        selector = {"label_selector": f"ims.job={job_id}"}
        wait_for(lambda: not self.pods(job_id), 30)
        assert self.core.list_namespaced_service(self.namespace, **selector).items == []
        assert self.core.list_namespaced_persistent_volume_claim(self.namespace, **selector).items == []


def require_own_node() -> None:
    """Skip a test that is for a cluster that nobody else uses."""
    if Path(os.environ["KUBECONFIG"]) != STATE / "admin.conf":
        pytest.skip("needs make test-node")
