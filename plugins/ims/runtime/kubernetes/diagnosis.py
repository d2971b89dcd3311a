"""What a pod says about its step: the outcome, and why it failed or does not start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubernetes.client import models as k8s

from ims.runtime.kubernetes import pods
from ims.steps import outcome as outcomes


def explain(pod: k8s.V1Pod) -> str | None:
    """Returns one sentence that says why a pod failed or does not start, or None if its status gives no reason."""
    status = pod.status
    if status.reason:  # Evicted, NodeLost, OutOfmemory and the like; a pod that ended by itself has none
        return f"the pod was ended by its node ({status.reason}): {status.message or 'no reason given'}"
    for condition in status.conditions or []:
        if condition.type == "DisruptionTarget" and condition.status == "True":
            return f"the pod was ended by the cluster ({condition.reason}): {condition.message or 'no reason given'}"
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"no node can run the pod: {condition.message}"
    for state in _states(pod):
        if state.waiting is not None and state.waiting.reason not in ("ContainerCreating", "PodInitializing"):
            return f"the pod does not start ({state.waiting.reason}): {state.waiting.message or ''}".rstrip(": ")
        if state.terminated is not None and state.terminated.reason == "OOMKilled":
            return "the step used more memory than its limit and was killed; set job_mem_size"
    if status.phase == "Pending":
        return "the pod does not start: a volume, Secret or ConfigMap of it may be missing; see kubectl describe pod"
    return None


def outcome(pod: k8s.V1Pod, read_log: outcomes.ReadLog = lambda _lines: "") -> tuple[int | None, dict[str, Any]]:
    """Returns the exit code of a pod's step and its outcome: {"result"} or {"error", "hint"}.

    If the step runs again after a failure, this is the outcome of its last try. None and {} if it has not ended.
    `read_log` reads the log of the pod if the result of the step is too long for the last message. Raises
    UnavailableError if the log lacks the result.
    """
    for status in pod.status.container_statuses or []:
        ended = status.state.terminated or (status.last_state and status.last_state.terminated)
        if status.name == pods.CONTAINER and ended is not None:
            return ended.exit_code, outcomes.read(ended.message or "", read_log)
    return None, {}


def _states(pod: k8s.V1Pod) -> Iterator[k8s.V1ContainerState]:
    for status in [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]:
        yield status.state
