"""A step as a task on Kubernetes. The cluster and Airflow's own operator for pods are replaced."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import KubernetesApiException
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager, PodNotFoundException
from airflow.sdk import Context
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
)
from kubernetes.client import models as k8s

from ims.operators import pod
from ims.operators.conditions import none_of
from ims.operators.pod import MARGIN_SECONDS, PodStepOperator
from ims.runtime.kubernetes import pods
from ims.steps import outcome
from tests.operators.ended_pods import ended, replace, succeeds
from tests.operators.fakes import RUN_ID, make_context, xcoms

INPUTS = {"workspace": f"/mnt/workspaces/{RUN_ID}", "package_manager": "apt"}


@pytest.fixture(autouse=True)
def _cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that answers."""
    monkeypatch.setattr(pod, "await_cluster", lambda: None)


def step(**arguments: Any) -> PodStepOperator:
    """The task of a step."""
    return PodStepOperator(task_id="build_ca_package", inputs=INPUTS, arch="aarch64", memory_gib=2, **arguments)


def test_short_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pod fits the architecture of the image and has the memory that the job sets."""
    succeeds(monkeypatch, "execute")
    task = step()
    assert task.execute(make_context()) == "/jobs/ca.deb"
    assert task.full_pod_spec is not None
    spec = task.full_pod_spec.spec
    assert spec.node_selector["kubernetes.io/arch"] == "arm64"
    assert spec.containers[0].resources.limits["memory"] == "2Gi"
    assert spec.containers[0].args[0] == "build_ca_package"
    assert task.do_xcom_push  # Airflow stores the result


@pytest.mark.parametrize("message", ["", '{"error": "no"}'])
def test_result_is_lost(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    """Another try may help."""
    succeeds(monkeypatch, "execute", message)
    context = make_context()
    with pytest.raises(AirflowException) as caught:
        step().execute(context)
    assert not isinstance(caught.value, AirflowFailException)
    assert xcoms(context)["failure"].startswith("the step's pod is gone")


def test_large_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is read from the log before the pod is deleted. The log of the task does not show it."""
    result = [hashlib.sha256(bytes([number])).hexdigest() for number in range(256)]
    outcome.write({"result": result}, tmp_path / "message")
    log = capsys.readouterr().out
    succeeds(monkeypatch, "execute", (tmp_path / "message").read_text())
    task = step()
    task.client = SimpleNamespace(
        read_namespaced_pod_log=lambda *_, **_named: SimpleNamespace(data=log.encode()),
    )
    assert task.execute(make_context()) == result
    formatter: Any = task.log_formatter
    assert {formatter("step", line) for line in log.splitlines()} == {"(a part of the result)"}


def test_log_without_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node has rotated it away for good, so the pod is deleted: the next try would take it, and fail, too."""
    deleted: list[str] = []
    replace(monkeypatch, "process_pod_deletion", lambda _self, pod, **_: deleted.append(pod.metadata.name))
    succeeds(monkeypatch, "execute", '{"parts": 2, "sha256": "0"}')
    task, context = step(), make_context()
    task.client = SimpleNamespace(read_namespaced_pod_log=lambda *_, **_named: SimpleNamespace(data=b"one\ntwo\n"))
    with pytest.raises(AirflowException) as caught:
        task.execute(context)
    assert not isinstance(caught.value, AirflowFailException)
    assert xcoms(context)["failure"].startswith("the log of the pod lacks the result of the step")
    assert deleted == ["build-ca-package"]


def phases(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[str]:
    """Make the cluster find the pod in these phases, one after the other. Returns those that are left."""
    left = iter(names)
    manager = SimpleNamespace(read_pod=lambda _pod: k8s.V1Pod(status=k8s.V1PodStatus(phase=next(left))))
    monkeypatch.setattr(PodStepOperator, "pod_manager", manager)
    monkeypatch.setattr(pod, "POLL_SECONDS", 0)
    return left


@pytest.mark.parametrize(("seconds", "runs"), [(60, False), (-1, True)], ids=["ends", "runs on"])
def test_log_ends_before_its_container(monkeypatch: pytest.MonkeyPatch, seconds: float, runs: bool) -> None:
    """The cluster learns of the end a moment later; the log is not read again until then."""
    found = iter([True, True, False])
    monkeypatch.setattr(PodManager, "container_is_running", lambda *_: next(found))
    monkeypatch.setattr(pod, "STATUS_SECONDS", seconds)
    monkeypatch.setattr(pod, "POLL_SECONDS", 0)
    core: Any = None
    assert pod.PatientPodManager(core).container_is_running(k8s.V1Pod(), "step") is runs


def test_cluster_is_away_while_a_long_step_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task is left to the triggerer, which waits longer for an answer."""

    def read_pod(_pod: k8s.V1Pod) -> Any:
        raise KubernetesApiException("no answer")

    monkeypatch.setattr(PodStepOperator, "pod_manager", SimpleNamespace(read_pod=read_pod))
    deferred: list[bool] = []
    replace(monkeypatch, "invoke_defer_method", lambda *_: deferred.append(True))
    task = step(long=True)
    task.pod = k8s.V1Pod()
    task.invoke_defer_method()
    assert deferred


@pytest.mark.parametrize(
    ("tries", "phase", "data", "reused"),
    [
        (2, "Succeeded", "{}", True),
        (2, "Succeeded", '{"other": 1}', False),
        (2, "Running", "{}", False),
        (1, "Succeeded", "{}", False),
    ],
    ids=["has the result", "has other input", "runs: the base class continues with it", "first try"],
)
def test_pod_of_a_killed_worker(
    monkeypatch: pytest.MonkeyPatch, tries: int, phase: str, data: str, reused: bool
) -> None:
    """The next try takes the result of a pod that has succeeded meanwhile, and does not run the step again."""

    def made(data: str, phase: str) -> k8s.V1Pod:
        metadata = k8s.V1ObjectMeta(name="x", namespace="ims", annotations={pods.INPUT_ANNOTATION: data})
        return k8s.V1Pod(metadata=metadata, status=k8s.V1PodStatus(phase=phase))

    found, new = made(data, phase), made("{}", "Pending")
    replace(monkeypatch, "find_pod", lambda *_: found)
    replace(monkeypatch, "get_or_create_pod", lambda *_: new)
    context: Any = {"ti": SimpleNamespace(try_number=tries)}
    assert step().get_or_create_pod(new, context) is (found if reused else new)


def test_pod_that_starts_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The events of the namespace are not read."""
    left = phases(monkeypatch, "Pending", "Pending", "Running")
    replace(monkeypatch, "await_pod_start", lambda *_: pytest.fail("events are read"))
    step().await_pod_start(k8s.V1Pod(spec=k8s.V1PodSpec(containers=[])))
    assert list(left) == []


def test_pod_that_starts_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base class waits for it and logs its events."""
    phases(monkeypatch, "Pending")
    monkeypatch.setattr(pod, "SOON_SECONDS", -1)
    waited: list[k8s.V1Pod] = []
    replace(monkeypatch, "await_pod_start", lambda _self, found: waited.append(found))
    step().await_pod_start(k8s.V1Pod(spec=k8s.V1PodSpec(containers=[])))
    assert waited


@pytest.mark.parametrize(("seconds", "found"), [(60, "Succeeded"), (-1, "Running")], ids=["ends soon", "takes longer"])
def test_long_step_that_ends_soon(monkeypatch: pytest.MonkeyPatch, seconds: float, found: str) -> None:
    """The base class sees that its pod has ended, and does not defer."""
    phases(monkeypatch, *(["Running", "Succeeded", "Succeeded"] if seconds > 0 else ["Running", "Running"]))
    monkeypatch.setattr(pod, "SOON_SECONDS", seconds)
    seen: list[str] = []
    replace(monkeypatch, "invoke_defer_method", lambda self, *_: seen.append(self.pod.status.phase))
    task = step(long=True)
    task.pod = k8s.V1Pod()
    task.invoke_defer_method()
    assert seen == [found]


def test_long_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The triggerer sees its pod end; the result is the same."""
    succeeds(monkeypatch, "trigger_reentry")
    assert step(long=True).trigger_reentry(make_context(), {}) == "/jobs/ca.deb"


def test_long_step_that_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base class then calls trigger_reentry itself and drops its result."""
    succeeds(monkeypatch, "trigger_reentry")
    replace(monkeypatch, "execute", lambda self, context: self.trigger_reentry(context, {}) and None)
    assert step(long=True).execute(make_context()) == "/jobs/ca.deb"


def test_pod_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another try may help."""

    def trigger_reentry(*_arguments: Any) -> Any:
        raise PodNotFoundException

    replace(monkeypatch, "trigger_reentry", trigger_reentry)
    context = make_context()
    with pytest.raises(AirflowException) as caught:
        step(long=True).trigger_reentry(context, {})
    assert not isinstance(caught.value, AirflowFailException)
    assert xcoms(context)["failure"]


FAILURES = {
    "the step gives a reason": (65, '{"error": "no", "hint": "Do it by hand"}', True, "no. Do it by hand"),
    "the step may succeed later": (69, '{"error": "S3 does not answer", "hint": ""}', False, "S3 does not answer"),
    "the step gives no reason": (
        137,
        "Killed",
        False,
        "build_ca_package ended with exit code 137 without giving a reason. See its log",
    ),
}


@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
@pytest.mark.parametrize(("code", "message", "permanent", "reason"), FAILURES.values(), ids=FAILURES)
def test_step_fails(
    monkeypatch: pytest.MonkeyPatch, code: int, message: str, permanent: bool, reason: str, long: bool
) -> None:
    """The exit code says whether another try may help; the reason is kept. This also holds after a deferral."""

    def cleanup(*_arguments: Any, **_named: Any) -> None:
        raise AirflowException("Pod step returned a failure.")

    replace(monkeypatch, "cleanup", cleanup)
    method = "trigger_reentry" if long else "execute"
    replace(monkeypatch, method, lambda self, *_, **_named: self.cleanup(k8s.V1Pod(), ended(code, message)))
    context, task = make_context(), step(long=long)
    perform = partial(task.trigger_reentry, event={"status": "failed"}) if long else task.execute
    with pytest.raises(AirflowException) as caught:
        perform(context=context)
    assert isinstance(caught.value, AirflowFailException) is permanent
    assert xcoms(context)["failure"] == reason


def still_running() -> k8s.V1Pod:
    """A pod whose step has not ended."""
    return k8s.V1Pod(status=k8s.V1PodStatus(phase="Running", container_statuses=[]))


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One item for each time that the pod was deleted."""
    calls: list[bool] = []
    replace(monkeypatch, "on_kill", lambda _self: calls.append(True))
    return calls


def test_short_step_takes_too_long(monkeypatch: pytest.MonkeyPatch, killed: list[bool]) -> None:
    """Its pod is deleted. The reason is the limit, not the state in which the pod was found."""

    def execute(self: PodStepOperator, _context: Context) -> None:
        try:
            raise AirflowTaskTimeout("Timeout")
        finally:
            self.cleanup(k8s.V1Pod(), still_running())

    def cleanup(*_arguments: Any, **_named: Any) -> None:
        raise AirflowException("the pod has not ended")

    replace(monkeypatch, "execute", execute)
    replace(monkeypatch, "cleanup", cleanup)
    context = make_context()
    with pytest.raises(AirflowException):
        step(execution_timeout=timedelta(seconds=60)).execute(context)
    assert killed
    assert xcoms(context)["failure"].startswith("it took longer than its limit of 60 s and was ended")


def test_long_step_takes_too_long(monkeypatch: pytest.MonkeyPatch, killed: list[bool]) -> None:
    """The triggerer sees that the time is over; the pod is deleted, and the reason is the same."""

    def reentry(*_arguments: Any) -> None:
        raise AirflowException("the deadline was reached")

    replace(monkeypatch, "trigger_reentry", reentry)
    context = make_context()
    with pytest.raises(AirflowException):
        step(long=True, execution_timeout=timedelta(seconds=60)).trigger_reentry(context, {"status": "timeout"})
    assert killed
    assert xcoms(context)["failure"].startswith("it took longer than its limit of 60 s and was ended")


def test_cluster_ends_the_pod_of_a_lost_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod does not outlive its limit, even if Airflow is gone."""
    succeeds(monkeypatch, "execute")
    task = step(execution_timeout=timedelta(seconds=60))
    task.execute(make_context())
    assert task.full_pod_spec is not None
    assert task.full_pod_spec.spec.active_deadline_seconds == 60 + MARGIN_SECONDS


def test_step_that_the_job_does_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pod is started."""
    replace(monkeypatch, "execute", lambda *_: pytest.fail("a pod was started"))
    with pytest.raises(AirflowSkipException):
        step(run_if=none_of(True)).execute(make_context())


def test_levels_of_lines() -> None:
    """Airflow takes the level from the prefix of a line; the task logs the message alone."""
    formatter: Any = step().log_formatter
    assert formatter("step", "WARNING: no /etc/machine-id") == "no /etc/machine-id"
