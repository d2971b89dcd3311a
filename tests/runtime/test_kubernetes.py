"""The runtime of a cluster against a fake API server: workspaces, shells and leftovers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

from ims.errors import ImsError, MissingError, UnavailableError
from ims.runtime.base import ShellAddress, ShellRequest
from ims.runtime.kubernetes import runtime as runtime_module
from ims.runtime.kubernetes import shells, workspaces
from ims.runtime.kubernetes.runtime import KubernetesRuntime
from ims.shell import sshd

ANNOUNCED = {"host": "0.0.0.0", "port": 2022, "fingerprint": "SHA256:x", "command": "ssh -p 2022 root@0.0.0.0"}  # noqa: S104


class FakeCluster:
    """The part of CoreV1Api that the runtime uses, with the objects in memory. Nothing ever runs."""

    connect_get_namespaced_pod_exec = None

    def __init__(self) -> None:
        self.commands: list[tuple[str, ...]] = []
        self.printed = json.dumps(ANNOUNCED)
        self.code: int | None = 0
        self.objects: dict[tuple[str, str], Any] = {}
        self.pod_status = k8s.V1PodStatus(
            phase="Running", container_statuses=[status(k8s.V1ContainerState(), ready=True)]
        )

    def run(self, _connect: Any, pod: str, _namespace: str, command: list[str], **_options: Any) -> Any:
        """The answer of a command in a pod. Raises ApiException if there is none."""
        if ("pod", pod) not in self.objects:
            raise ApiException(status=500)
        self.commands.append((pod, *command))
        return SimpleNamespace(run_forever=lambda timeout: None, read_stdout=lambda: self.printed, returncode=self.code)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb, _, kind = name.partition("_namespaced_")
        return lambda *arguments, **options: getattr(self, f"_{verb}")(kind, *arguments, **options)

    def _create(self, kind: str, _namespace: str, body: Any) -> None:
        if (kind, body.metadata.name) in self.objects:
            raise ApiException(status=409)
        body.metadata.creation_timestamp = datetime.now(UTC)
        if kind == "pod":
            body.status = self.pod_status
        if kind == "service":
            body.spec.cluster_ip = "10.0.0.1"
        self.objects[kind, body.metadata.name] = body

    def _read(self, kind: str, name: str, _namespace: str) -> Any:
        if (kind, name) not in self.objects:
            raise ApiException(status=404)
        return self.objects[kind, name]

    def _list(self, kind: str, _namespace: str, label_selector: str) -> Any:
        label, _, value = label_selector.partition("=")
        return SimpleNamespace(
            items=[
                item
                for (found, _), item in self.objects.items()
                if found == kind and item.metadata.labels.get(label) == value
            ]
        )

    def _delete(self, kind: str, name: str, _namespace: str, **_options: Any) -> None:
        self._read(kind, name, _namespace)
        del self.objects[kind, name]

    def _delete_collection(self, kind: str, namespace: str, label_selector: str, **_options: Any) -> None:
        for item in self._list(kind, namespace, label_selector).items:
            del self.objects[kind, item.metadata.name]


def status(state: k8s.V1ContainerState, *, ready: bool = False) -> k8s.V1ContainerStatus:
    """The status of the container of a step."""
    return k8s.V1ContainerStatus(name="step", state=state, image="", image_id="", ready=ready, restart_count=0)


def ended(code: int, message: dict[str, str]) -> k8s.V1PodStatus:
    """The status of a pod whose step has ended."""
    terminated = k8s.V1ContainerStateTerminated(exit_code=code, message=json.dumps(message))
    state = status(k8s.V1ContainerState(terminated=terminated))
    return k8s.V1PodStatus(phase="Failed" if code else "Succeeded", container_statuses=[state])


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """The cluster that the runtime connects to. Its pods announce a shell, which answers at once."""
    fake = FakeCluster()
    monkeypatch.setattr(runtime_module, "core_api", lambda: fake)
    monkeypatch.setattr(shells, "stream", fake.run)
    monkeypatch.setattr(sshd, "await_answer", lambda *_arguments: None)
    for module, name in ((shells, "START_SECONDS"), (workspaces, "CLOSE_SECONDS")):
        monkeypatch.setattr(module, name, 0)
    return fake


@pytest.fixture
def job() -> str:
    """The id of a job."""
    return str(uuid4())


def request(job: str) -> ShellRequest:
    """A request for a shell."""
    workspace = Path("/mnt/workspaces") / job
    return ShellRequest(workspace=workspace, rootfs=None, public_key="key", jail=False, name="debug", arch=None)


def test_workspace_is_a_volume(cluster: FakeCluster, job: str) -> None:
    """Opening it again replaces it; closing removes everything of the job."""
    runtime = KubernetesRuntime()
    for _ in range(2):
        assert runtime.open_workspace(job, 5) == Path("/mnt/workspaces") / job
    (claim,) = cluster.objects.values()
    assert claim.spec.resources.requests == {"storage": "5Gi"}
    runtime.open_shell(request(job))
    runtime.close_workspace(job)
    assert cluster.objects == {}


def test_shell_has_the_address_of_its_service(cluster: FakeCluster, job: str) -> None:
    """Opening it again changes nothing; closing removes pod and service, and does nothing without them."""
    runtime = KubernetesRuntime()
    opened = runtime.open_shell(request(job))
    assert opened == ShellAddress(
        host="10.0.0.1", port=22, fingerprint="SHA256:x", command=f"ssh -p 22 -o HostKeyAlias={job} root@10.0.0.1"
    )
    assert runtime.open_shell(request(job)) == opened
    assert len(cluster.objects) == 2
    assert runtime.shell_outcome(job) is None
    for _ in range(2):
        runtime.close_shell(job)
        assert cluster.objects == {}
    assert runtime.shell_outcome(job) is None


@pytest.mark.parametrize("outcome", ["complete", "fail"])
def test_outcome_is_the_result_of_the_step(cluster: FakeCluster, job: str, outcome: str) -> None:
    """The pod has ended by itself."""
    KubernetesRuntime().open_shell(request(job))
    cluster.objects["pod", f"shell-{job}"].status = ended(0, {"result": outcome})
    assert KubernetesRuntime().shell_outcome(job) == outcome


def test_shell_ends_before_it_is_asked(cluster: FakeCluster, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pod refuses the connection, and the client of Kubernetes then fails to read the answer."""
    runtime = KubernetesRuntime()
    runtime.open_shell(request(job))

    def refuse(*_arguments: Any, **_options: Any) -> Any:
        try:
            raise ApiException(status=0, reason="Handshake status 500")
        except ApiException as error:
            return error.body.decode()

    monkeypatch.setattr(shells, "stream", refuse)
    for ask in (runtime.finish_shell, runtime.shell_refusal):
        with pytest.raises(UnavailableError, match="Handshake status 500"):
            ask(job)


def test_shell_is_asked_to_end(cluster: FakeCluster, job: str) -> None:
    """By files in the workspace, which only its pod sees. Without a pod it cannot be asked."""
    runtime, run = KubernetesRuntime(), f"/mnt/workspaces/{job}/run"
    with pytest.raises(UnavailableError):
        runtime.finish_shell(job)
    runtime.open_shell(request(job))
    cluster.commands.clear()
    runtime.finish_shell(job)
    cluster.printed = ""
    assert runtime.shell_refusal(job) is None
    cluster.printed = "the image has no kernel"
    assert runtime.shell_refusal(job) == "the image has no kernel"
    read = (f"shell-{job}", "cat", f"{run}/shell-requests/refusal")
    assert cluster.commands == [
        (f"shell-{job}", "rm", "-f", f"{run}/shell-requests/refusal"),
        (f"shell-{job}", "touch", f"{run}/shell-requests/complete"),
        *(read, read),
    ]
    for code in (1, None):
        cluster.code = code
        with pytest.raises(UnavailableError, match=f"the shell of the job {job} cannot be asked to end: rm failed"):
            runtime.finish_shell(job)


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [(66, MissingError, "there is no image root"), (70, ImsError, "did not open in 0 s: there is no image root")],
)
def test_failure_of_the_step_is_the_reason(
    cluster: FakeCluster, job: str, code: int, kind: type[ImsError], reason: str
) -> None:
    """A shell that cannot open gives the step's own reason; without an image root it is a MissingError."""
    cluster.pod_status = ended(code, {"error": "there is no image root", "hint": ""})
    with pytest.raises(kind, match=reason) as caught:
        KubernetesRuntime().open_shell(request(job))
    assert caught.value.exit_code == code


def test_leftovers_of_ended_jobs(cluster: FakeCluster) -> None:
    """Objects of running jobs and young objects are none."""
    runtime = KubernetesRuntime()
    left, running, young = (str(uuid4()) for _ in range(3))
    for identity in (left, running, young):
        runtime.open_workspace(identity, 2)
    for identity in (left, running):
        cluster.objects["persistent_volume_claim", f"ims-{identity}"].metadata.creation_timestamp -= timedelta(days=2)
    (found,) = runtime.leftovers(lambda: [running], 24)
    assert (found.kind, found.name, found.size) == ("workspaces", left, 2 * 1024**3)
    assert found.remove()
    assert {name for _, name in cluster.objects} == {f"ims-{running}", f"ims-{young}"}
