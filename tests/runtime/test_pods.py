"""The pods of steps as the cluster receives them, and what its answers mean."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiClient
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import MaxRetryError

from ims.errors import ConfigurationError, ImsError, InputError, UnavailableError
from ims.masking import Secrets, save
from ims.runtime.base import ShellRequest
from ims.runtime.kubernetes import pods
from ims.runtime.kubernetes.cluster import await_cluster, cluster_errors, core_api
from ims.runtime.kubernetes.credentials import store_credentials
from ims.runtime.kubernetes.diagnosis import explain, outcome
from ims.steps.__main__ import main, run
from ims.steps.step import Step, StepInput, load_step
from ims.workspace import Workspace

JOB = "0c7d1a52-91f5-4a53-8f0e-6a3f0a2c5b11"
DATA = {"workspace": f"/mnt/workspaces/{JOB}"}
STEPS = [
    path.stem
    for path in Path(pods.__file__).parents[2].joinpath("steps").glob("*.py")
    if "STEP = Step(" in path.read_text()
]
PRIVILEGED = set(STEPS) - {"build_ca_package", "describe_builder", "fetch_image", "upload_artifacts"}
DEPLOY = Path(__file__).parents[2] / "deploy"


def sent(name: str, **arguments: Any) -> dict[str, Any]:
    """The pod of a step as JSON."""
    pod = pods.step_pod(load_step(name), DATA, **{"arch": "x86_64", **arguments})
    return dict(ApiClient().sanitize_for_serialization(pod))


@pytest.mark.parametrize("name", STEPS)
def test_only_some_steps_are_privileged(name: str) -> None:
    """Steps that make sandboxes are privileged; all others can write only to the volume."""
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
def test_who_opens_the_volume_to_ordinary_users(name: str) -> None:
    """A privileged step itself; an init container only for steps without privileges that may be the first."""
    spec = sent(name)["spec"]
    commands = [item["command"] for item in spec.get("initContainers", [])]
    begins = name in ("describe_builder", "fetch_image")
    assert commands == ([["chmod", "1777", f"/mnt/workspaces/{JOB}"]] if begins else [])
    assert ("--open" in spec["containers"][0]["args"]) is (name in PRIVILEGED)


@pytest.mark.parametrize("fails", [False, True], ids=["step ends", "step fails"])
def test_step_opens_the_volume(fails: bool, tmp_path: Path) -> None:
    """Other users can write to it then, and read the secrets that the step found, even if the step fails."""
    found = Workspace(tmp_path)

    def work(_step: StepInput) -> None:
        save(found.secrets, Secrets())
        if fails:
            raise InputError("no")

    with suppress(InputError):
        run(Step("work", StepInput, work), json.dumps({"workspace": str(tmp_path)}), opens=True)
    assert found.root.stat().st_mode & 0o7777 == 0o1777
    assert found.secrets.stat().st_mode & 0o7777 == 0o644


@pytest.mark.parametrize("name", STEPS)
def test_secrets_are_references(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 credentials come from the Secret, for steps that declare them; the pod contains no secret of the service."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very secret")
    monkeypatch.setenv("IMS_DATABASE_URL", "postgresql://ims:very secret@db/ims")
    pod = sent(name)
    assert "very secret" not in json.dumps(pod)
    names = {item["name"] for item in pod["spec"]["containers"][0]["env"]}
    assert ("AWS_SECRET_ACCESS_KEY" in names) is (load_step(name).s3 is not None)
    assert "IMS_DATABASE_URL" not in names


@pytest.mark.parametrize("name", STEPS)
def test_rules_for_addresses_are_those_of_the_service(name: str, configure: Callable[..., None]) -> None:
    """A pod refuses the address of S3, and allows the networks of the setting."""
    configure(allowed_networks="192.0.2.0/24", s3_endpoint_url="http://198.51.100.7:9000")
    variables = {item["name"]: item.get("value") for item in sent(name)["spec"]["containers"][0]["env"]}
    assert variables["IMS_ALLOWED_NETWORKS"] == "192.0.2.0/24"
    assert variables["IMS_S3_ENDPOINT_URL"] == "http://198.51.100.7:9000"


@pytest.mark.parametrize("name", STEPS)
def test_secrets_of_recipes(name: str) -> None:
    """Only the pods that render templates mount the Secret of recipes, which need not exist."""
    pod = sent(name)
    mounted = [item["secret"] for item in pod["spec"]["volumes"] if "secret" in item]
    renders = name in ("fetch_recipe", "plan_images")
    assert mounted == ([{"secretName": "ims-recipe-secrets", "optional": True}] if renders else [])
    paths = [item["mountPath"] for item in pod["spec"]["containers"][0]["volumeMounts"]]
    assert ("/etc/ims/recipe-secrets" in paths) is renders


@pytest.mark.parametrize("name", STEPS)
def test_input_is_a_file(name: str) -> None:
    """A step reads its input from a file: everybody on the node can read arguments."""
    pod = sent(name)
    (container,) = pod["spec"]["containers"]
    assert JOB not in json.dumps([container["args"], container.get("command")])
    assert json.loads(pod["metadata"]["annotations"][pods.INPUT_ANNOTATION]) == DATA
    (volume,) = [item["downwardAPI"]["items"] for item in pod["spec"]["volumes"] if item["name"] == "input"]
    assert volume[0]["fieldRef"]["fieldPath"] == f"metadata.annotations['{pods.INPUT_ANNOTATION}']"
    (mount,) = [item for item in container["volumeMounts"] if item["name"] == "input"]
    assert container["args"][1:3] == ["--input", f"{mount['mountPath']}/{volume[0]['path']}"]


def test_credentials_are_removed_with_the_job() -> None:
    """The volume of the job owns the Secret, which nothing needs to read or delete."""
    made: list[k8s.V1Secret] = []

    class Core:
        def list_namespaced_persistent_volume_claim(self, _namespace: str, label_selector: str) -> Any:
            claim = k8s.V1PersistentVolumeClaim(metadata=k8s.V1ObjectMeta(name=pods.volume_name(JOB), uid="1234"))
            return k8s.V1PersistentVolumeClaimList(items=[claim] if label_selector == f"ims.job={JOB}" else [])

        def create_namespaced_secret(self, _namespace: str, secret: k8s.V1Secret) -> Any:
            made.append(secret)
            return k8s.V1Secret(metadata=k8s.V1ObjectMeta(name="given"))

    core: Any = Core()
    variables = {**dict.fromkeys(pods.S3_KEYS, "temporary"), "AWS_ENDPOINT_URL": "https://s3.example"}
    assert store_credentials(core, JOB, "upload_artifacts", variables) == "given"
    (secret,) = made
    assert set(secret.string_data) == set(pods.S3_KEYS)
    (owner,) = secret.metadata.owner_references
    assert (owner.kind, owner.name, owner.uid) == ("PersistentVolumeClaim", pods.volume_name(JOB), "1234")
    with pytest.raises(UnavailableError, match="is gone"):
        store_credentials(core, "other", "upload_artifacts", variables)


def test_resources(configure: Callable[..., None]) -> None:
    """They come from the settings; the memory limit of the job takes precedence."""
    limits = {"build_image": {"requests": {"cpu": "2"}, "limits": {"memory": "8Gi", "cpu": "4"}}}
    configure(kubernetes_resources=json.dumps(limits), kubernetes_node_selector='{"role": "builder"}')
    pod = sent("build_image", memory_gib=16)
    assert pod["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "2"},
        "limits": {"memory": "16Gi", "cpu": "4"},
    }
    assert pod["spec"]["nodeSelector"]["role"] == "builder"
    assert pod["spec"]["nodeSelector"]["kubernetes.io/arch"] == "amd64"
    assert sent("build_image", arch="aarch64")["spec"]["nodeSelector"]["kubernetes.io/arch"] == "arm64"
    assert sent("plan_images", arch=None)["spec"]["nodeSelector"] == {"role": "builder"}


def test_shell_pod() -> None:
    """It restarts if it fails, and its service and network policy select it."""
    pod = pods.shell_pod(
        load_step("serve_shell"),
        ShellRequest(
            workspace=Path(DATA["workspace"]), rootfs=None, public_key="", jail=True, name="shell", arch="aarch64"
        ),
    )
    service = pods.shell_service(JOB)
    assert pod.spec.restart_policy == "OnFailure"
    assert pod.spec.node_selector["kubernetes.io/arch"] == "arm64"
    assert service.spec.selector.items() <= pod.metadata.labels.items()
    assert service.spec.selector["ims.job"] == JOB
    assert json.loads(pod.metadata.annotations[pods.INPUT_ANNOTATION])["host"] == "0.0.0.0"  # noqa: S104
    policies = {item["metadata"]["name"]: item for item in yaml.safe_load_all((DEPLOY / "network.yaml").read_text())}
    assert policies["ims-shells"]["spec"]["podSelector"]["matchLabels"].items() <= pod.metadata.labels.items()
    assert (
        policies["ims-shells"]["spec"]["ingress"][0]["ports"][0]["port"]
        == pod.spec.containers[0].ports[0].container_port
    )


def ended(code: int, message: str = "", reason: str = "Error") -> k8s.V1Pod:
    """A pod whose step has ended with an exit code."""
    state = k8s.V1ContainerState(
        terminated=k8s.V1ContainerStateTerminated(exit_code=code, message=message, reason=reason)
    )
    status = k8s.V1ContainerStatus(name="step", state=state, image="", image_id="", ready=False, restart_count=0)
    return k8s.V1Pod(status=k8s.V1PodStatus(container_statuses=[status]))


def test_outcome() -> None:
    """The last message of a step is its outcome; a message that is not JSON is ignored."""
    assert outcome(ended(65, '{"error": "no such recipe", "hint": "x"}')) == (
        65,
        {"error": "no such recipe", "hint": "x"},
    )
    assert outcome(ended(137, "Killed")) == (137, {})
    assert outcome(k8s.V1Pod(status=k8s.V1PodStatus())) == (None, {})


def waiting(reason: str, message: str = "") -> k8s.V1PodStatus:
    """The status of a pod whose container does not start."""
    state = k8s.V1ContainerState(waiting=k8s.V1ContainerStateWaiting(reason=reason, message=message))
    status = k8s.V1ContainerStatus(name="step", state=state, image="", image_id="", ready=False, restart_count=0)
    return k8s.V1PodStatus(phase="Pending", container_statuses=[status])


def condition(kind: str, status: str, reason: str, message: str) -> k8s.V1PodStatus:
    """The status of a pod with a condition."""
    return k8s.V1PodStatus(
        phase="Pending", conditions=[k8s.V1PodCondition(type=kind, status=status, reason=reason, message=message)]
    )


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (ended(137, reason="OOMKilled").status, "the step used more memory than its limit and was killed"),
        (
            k8s.V1PodStatus(phase="Failed", reason="Evicted", message="low on ephemeral-storage"),
            "the pod was ended by its node (Evicted): low on ephemeral-storage",
        ),
        (
            k8s.V1PodStatus(phase="Failed", reason="NodeLost", message="node n1 is unresponsive"),
            "the pod was ended by its node (NodeLost): node n1 is unresponsive",
        ),
        (
            k8s.V1PodStatus(phase="Failed", reason="OutOfmemory"),
            "the pod was ended by its node (OutOfmemory): no reason given",
        ),
        (
            condition("DisruptionTarget", "True", "DeletionByTaintManager", "node n1 is gone"),
            "the pod was ended by the cluster (DeletionByTaintManager): node n1 is gone",
        ),
        (
            condition("PodScheduled", "False", "Unschedulable", "0/3 nodes are available"),
            "no node can run the pod: 0/3 nodes are available",
        ),
        (waiting("ErrImagePull", "no such image"), "the pod does not start (ErrImagePull): no such image"),
        (waiting("ImagePullBackOff"), "the pod does not start (ImagePullBackOff)"),
        (
            waiting("CreateContainerConfigError", 'secret "ims-s3" not found'),
            'the pod does not start (CreateContainerConfigError): secret "ims-s3" not found',
        ),
        (waiting("ContainerCreating"), "the pod does not start: a volume, Secret or ConfigMap of it may be missing"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_explanation(status: k8s.V1PodStatus, sentence: str) -> None:
    """One sentence says why a pod failed or does not start."""
    assert str(explain(k8s.V1Pod(status=status))).startswith(sentence)


def test_failed_step_needs_no_explanation() -> None:
    """It gives its own reason."""
    assert explain(ended(65)) is None


@pytest.mark.parametrize(
    ("status", "said", "kind", "sentence"),
    [
        (403, "exceeded quota: jobs", UnavailableError, "the cluster has no room: exceeded quota: jobs"),
        (403, "pods is forbidden", ConfigurationError, "the cluster refuses the request: pods is forbidden"),
        (401, "Unauthorized", ConfigurationError, "the cluster refuses the request: Unauthorized"),
        (422, "name is too long", InputError, "the cluster rejects the request: name is too long"),
        (429, "too many requests", UnavailableError, "the cluster failed: too many requests"),
        (500, "etcd is away", UnavailableError, "the cluster failed: etcd is away"),
    ],
)
def test_error_of_the_cluster(status: int, said: str, kind: type[ImsError], sentence: str) -> None:
    """An answer of the cluster becomes one sentence, and decides whether the task is retried."""
    error = ApiException(status=status)
    error.body = json.dumps({"message": said})
    with pytest.raises(kind) as caught, cluster_errors():
        raise error
    assert caught.value.reason == sentence


@pytest.mark.parametrize("error", [ConnectionRefusedError(), MaxRetryError(HTTPConnectionPool("cluster"), "/api")])
def test_silent_cluster_is_unavailable(error: Exception) -> None:
    """It may answer later."""
    with pytest.raises(UnavailableError, match="the cluster does not answer"), cluster_errors():
        raise error


def test_missing_pod_is_retried() -> None:
    """A missing namespace is an error in the settings and is not."""
    for said, kind in (
        ('pods "build-image-1" not found', UnavailableError),
        ('namespaces "ims" not found', InputError),
    ):
        error = ApiException(status=404)
        error.body = json.dumps({"message": said})
        with pytest.raises(kind), cluster_errors():
            raise error


class _Version(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"major": "1", "minor": "20", "gitVersion": "v1.20.2", "gitCommit": "", "gitTreeState": "",')
        self.wfile.write(b'"buildDate": "", "goVersion": "", "compiler": "", "platform": ""}')

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name in the base class)
        """Log nothing."""


@pytest.mark.parametrize("status", [200, 403])
def test_cluster_is_awaited(tmp_path: Path, configure: Callable[..., None], status: int) -> None:
    """The wait ends when the cluster answers, even with a refusal, or when the time is over."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    path = tmp_path / "config"
    cluster = {"name": "c", "cluster": {"server": f"http://{address[0]}:{address[1]}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "c"}}
    users = [{"name": "c", "user": {"token": "t"}}]
    path.write_text(json.dumps({"clusters": [cluster], "contexts": [context], "users": users, "current-context": "c"}))
    configure(kubernetes_config=str(path))
    with pytest.raises(UnavailableError, match="the cluster does not answer"):
        await_cluster(0)
    waiting = threading.Thread(target=await_cluster)
    waiting.start()
    waiting.join(1)
    assert waiting.is_alive()
    with ThreadingHTTPServer(address, type("Answer", (_Version,), {"status": status})) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        waiting.join(30)
        server.shutdown()
    assert not waiting.is_alive()


@pytest.mark.parametrize("content", [None, "", "apiVersion: v1", "[", "{}"])
def test_no_cluster(content: str | None, tmp_path: Path, configure: Callable[..., None]) -> None:
    """A kubeconfig that is missing or invalid is reported in one sentence."""
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    configure(kubernetes_config=str(path))
    with pytest.raises(ConfigurationError, match=re.escape(f"the kubeconfig {path} cannot be used")):
        core_api()


def test_not_in_a_cluster(configure: Callable[..., None]) -> None:
    """Without a kubeconfig the service must run in a pod itself."""
    configure(kubernetes_config="")
    with pytest.raises(ConfigurationError, match="this is no pod of a cluster"):
        core_api()


def test_outcome_of_the_program(tmp_path: Path) -> None:
    """A step that fails writes its reason to the file that becomes the last message of the container."""
    said, data = tmp_path / "outcome", tmp_path / "input"
    data.write_text("{}")
    code = main(["build_image", "--input", str(data), "--outcome", str(said)])
    assert code == InputError.exit_code
    assert "the input of build_image is invalid" in json.loads(said.read_text())["error"]
