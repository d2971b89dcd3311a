"""The pods of steps, as they are sent to a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiClient
from kubernetes.client import models as k8s

from ims.errors import InputError
from ims.runtime import pods
from ims.runtime.kubernetes import explain, outcome
from ims.settings import settings
from ims.steps.step import load_step

JOB = "0c7d1a52-91f5-4a53-8f0e-6a3f0a2c5b11"
DATA = {"workspace": f"/mnt/workspaces/{JOB}"}
STEPS = [
    path.stem
    for path in Path(pods.__file__).parents[1].joinpath("steps").glob("*.py")
    if "STEP = Step(" in path.read_text()
]
PRIVILEGED = {"build_image", "list_changes", "package_artifacts", "run_script", "serve_shell"}
DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Change settings for one test."""

    def change(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"IMS_{name.upper()}", value)
        settings.cache_clear()

    yield change
    monkeypatch.undo()
    settings.cache_clear()


def sent(name: str, **arguments: Any) -> dict[str, Any]:
    """A step's pod as JSON."""
    pod = pods.step_pod(load_step(name), DATA, **arguments)
    return dict(ApiClient().sanitize_for_serialization(pod))


@pytest.mark.parametrize("name", STEPS)
def test_rights(name: str) -> None:
    """Only the steps that mount or change roots are privileged; the others can change nothing but the volume."""
    pod = sent(name)
    (container,) = pod["spec"]["containers"]
    security = container["securityContext"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert (security.get("privileged") is True) is (name in PRIVILEGED)
    if name in PRIVILEGED:
        return
    assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 1000)
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("name", STEPS)
def test_secrets_are_named_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 credentials come from the Secret, and only where the step declares them; none of ours is in the pod."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very secret")
    monkeypatch.setenv("IMS_DATABASE_URL", "postgresql://ims:very secret@db/ims")
    pod = sent(name)
    assert "very secret" not in json.dumps(pod)
    names = {item["name"] for item in pod["spec"]["containers"][0]["env"]}
    assert ("AWS_SECRET_ACCESS_KEY" in names) is load_step(name).s3
    assert "IMS_DATABASE_URL" not in names


def test_resources(configure: Callable[..., None]) -> None:
    """Of the settings, and the memory that the job asks for."""
    limits = {"build_image": {"requests": {"cpu": "2"}, "limits": {"memory": "8Gi", "cpu": "4"}}}
    configure(kubernetes_resources=json.dumps(limits), kubernetes_node_selector='{"role": "builder"}')
    pod = sent("build_image", memory_gib=16)
    assert pod["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "2"},
        "limits": {"memory": "16Gi", "cpu": "4"},
    }
    assert pod["spec"]["nodeSelector"]["role"] == "builder"
    assert pod["spec"]["nodeSelector"]["kubernetes.io/arch"] == "amd64"


def test_shell() -> None:
    """It is started again when it fails, and what makes it reachable selects nothing else."""
    pod = pods.shell_pod(load_step("serve_shell"), {**DATA, "rootfs": None})
    service = pods.shell_service(JOB)
    assert pod.spec.restart_policy == "OnFailure"
    assert service.spec.selector.items() <= pod.metadata.labels.items()
    assert service.spec.selector["ims.job"] == JOB
    assert json.loads(pod.spec.containers[0].args[1])["until_marked"] is True
    policies = {item["metadata"]["name"]: item for item in yaml.safe_load_all((DEPLOY / "network.yaml").read_text())}
    assert policies["ims-shells"]["spec"]["podSelector"]["matchLabels"].items() <= pod.metadata.labels.items()
    assert (
        policies["ims-shells"]["spec"]["ingress"][0]["ports"][0]["port"]
        == pod.spec.containers[0].ports[0].container_port
    )


def ended(code: int, message: str = "", reason: str = "Error") -> k8s.V1Pod:
    """A pod whose step has ended."""
    state = k8s.V1ContainerState(
        terminated=k8s.V1ContainerStateTerminated(exit_code=code, message=message, reason=reason)
    )
    status = k8s.V1ContainerStatus(name="step", state=state, image="", image_id="", ready=False, restart_count=0)
    return k8s.V1Pod(status=k8s.V1PodStatus(container_statuses=[status]))


def test_outcome() -> None:
    """What a step says of its failure is read; what is no JSON says nothing."""
    assert outcome(ended(65, '{"error": "no such recipe", "hint": "x"}')) == (
        65,
        {"error": "no such recipe", "hint": "x"},
    )
    assert outcome(ended(137, "Killed")) == (137, {})
    assert outcome(k8s.V1Pod(status=k8s.V1PodStatus())) == (None, {})


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (ended(137, reason="OOMKilled").status, "more memory than its limit"),
        (k8s.V1PodStatus(reason="Evicted", message="low on ephemeral-storage"), "low on ephemeral-storage"),
        (
            k8s.V1PodStatus(
                conditions=[k8s.V1PodCondition(type="PodScheduled", status="False", message="0/3 nodes are available")]
            ),
            "0/3 nodes are available",
        ),
        (
            k8s.V1PodStatus(
                container_statuses=[
                    k8s.V1ContainerStatus(
                        name="step",
                        state=k8s.V1ContainerState(
                            waiting=k8s.V1ContainerStateWaiting(reason="ErrImagePull", message="no such image")
                        ),
                        image="",
                        image_id="",
                        ready=False,
                        restart_count=0,
                    )
                ]
            ),
            "ErrImagePull",
        ),
    ],
    ids=["memory", "evicted", "unschedulable", "image"],
)
def test_explained(status: k8s.V1PodStatus, words: str) -> None:
    """One sentence for what keeps a pod from doing its work."""
    assert words in str(explain(k8s.V1Pod(status=status)))


def test_outcome_of_the_program(tmp_path: Path) -> None:
    """A step that fails leaves its reason where the cluster reads it."""
    from ims.steps.__main__ import main

    said = tmp_path / "outcome"
    code = main(["build_image", "{}", "--result", str(tmp_path / "result"), "--outcome", str(said)])
    assert code == InputError.exit_code
    assert "the input of build_image is wrong" in json.loads(said.read_text())["error"]
