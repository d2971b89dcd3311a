"""Pods that have ended, without a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import models as k8s

from ims.operators.pod import PodStepOperator


def replace(monkeypatch: pytest.MonkeyPatch, method: str, effect: Callable[..., Any]) -> None:
    """Replace a method of Airflow's operator."""
    monkeypatch.setattr(KubernetesPodOperator, method, effect)


def ended(code: int, message: str = "") -> k8s.V1Pod:
    """A pod whose step has ended with an exit code."""
    terminated = k8s.V1ContainerStateTerminated(exit_code=code, message=message, reason="Error")
    status = k8s.V1ContainerStatus(
        name="step",
        state=k8s.V1ContainerState(terminated=terminated),
        image="",
        image_id="",
        ready=False,
        restart_count=0,
    )
    metadata = k8s.V1ObjectMeta(name="build-ca-package", namespace="ims")
    return k8s.V1Pod(metadata=metadata, status=k8s.V1PodStatus(container_statuses=[status]))


def succeeds(monkeypatch: pytest.MonkeyPatch, method: str, message: str = '{"result": "/jobs/ca.deb"}') -> None:
    """Replace a method of Airflow's operator by one that finds a pod that succeeded, and cleans up."""

    def effect(self: PodStepOperator, *_arguments: Any) -> None:
        assert not self.do_xcom_push  # otherwise, the base class adds a sidecar
        self.cleanup(k8s.V1Pod(), ended(0, message))

    replace(monkeypatch, "cleanup", lambda *_: None)
    replace(monkeypatch, method, effect)
