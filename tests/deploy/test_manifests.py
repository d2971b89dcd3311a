"""The manifests of deploy/: their schemas, and the rights that they grant."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from ims import __version__
from ims.runtime.kubernetes import pods
from ims.settings import Settings
from ims.steps.step import load_step

DEPLOY = Path(__file__).parents[2] / "deploy"
VERSIONS = ("1.28", kubernetes_validate.latest_version())
PRIVILEGED = {"ims": "privileged", "airflow": "baseline", "ims-gateway": "restricted"}
# The requests of the code and of the Airflow operator that it uses.
VERBS = {
    "pods": {"create", "get", "list", "watch", "patch", "delete", "deletecollection"},
    "pods/log": {"get"},
    "pods/exec": {"create", "get"},
    "events": {"list", "watch"},
    "services": {"create", "get", "list", "delete"},
    "persistentvolumeclaims": {"create", "list", "deletecollection"},
    "secrets": {"create"},
}


def documents(*kinds: str) -> list[dict[str, Any]]:
    """The objects of the manifests; only those of these kinds, if any are given."""
    found = [item for path in sorted(DEPLOY.glob("*.yaml")) for item in yaml.safe_load_all(path.read_text())]
    return [item for item in found if not kinds or item["kind"] in kinds]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("item", documents(), ids=lambda item: f"{item['kind']}-{item['metadata']['name']}")
def test_schema(item: dict[str, Any], version: str) -> None:
    """Old and new versions of Kubernetes know every field."""
    kubernetes_validate.validate(item, version, strict=True)


def test_schema_is_strict() -> None:
    """The test above finds an unknown field."""
    item = documents("Role")[0]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**item, "rule": []}, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", ["build_image", "fetch_image"])
def test_pods_of_steps(name: str) -> None:
    """The pods that the code creates are valid."""
    from kubernetes.client import ApiClient

    pod = pods.step_pod(load_step(name), {"workspace": "/mnt/workspaces/0c7d1a52"}, "x86_64", 4)
    sent = ApiClient().sanitize_for_serialization(pod)
    kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **sent}, VERSIONS[-1], strict=True)


def test_rights() -> None:
    """There is one role, in the namespace of the jobs; it lets nobody read Secrets, and grants nothing cluster-wide."""
    assert documents("ClusterRole", "ClusterRoleBinding") == []
    (role,) = documents("Role")
    rights = {name: set(rule["verbs"]) for rule in role["rules"] for name in rule["resources"]}
    assert rights == VERBS
    assert all(rule["apiGroups"] == [""] for rule in role["rules"])
    (binding,) = documents("RoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_pod_security() -> None:
    """Every namespace has a level; only pods of jobs may be privileged."""
    label = "pod-security.kubernetes.io/enforce"
    assert {
        item["metadata"]["name"]: item["metadata"]["labels"][label] for item in documents("Namespace")
    } == PRIVILEGED


@pytest.mark.parametrize("namespace", PRIVILEGED)
def test_pods_are_closed_by_default(namespace: str) -> None:
    """One policy closes all pods, and each of the others opens one port."""
    policies = [item for item in documents("NetworkPolicy") if item["metadata"]["namespace"] == namespace]
    closed = [item for item in policies if item["spec"]["podSelector"] == {}]
    assert len(closed) == 1
    assert "Ingress" in closed[0]["spec"]["policyTypes"]
    for item in policies:
        if item not in closed:
            assert item["spec"]["policyTypes"] == ["Ingress"]
            assert [len(rule["ports"]) for rule in item["spec"]["ingress"]] == [1]


def test_link_local_addresses_are_closed() -> None:
    """Clouds serve the credentials of a node there, and the scripts of recipes run in these pods."""
    (policy,) = [item for item in documents("NetworkPolicy") if item["metadata"]["name"] == "ims-steps"]
    to_anywhere, names = policy["spec"]["egress"]
    blocks = [peer["ipBlock"] for peer in to_anywhere["to"] if "ipBlock" in peer]
    assert "169.254.0.0/16" in blocks[0]["except"]
    assert {port["port"] for port in names["ports"]} == {53}


def test_gateway_is_reached_from_one_namespace() -> None:
    """Whoever reaches it needs no token, and steps run the scripts of recipes in the same cluster."""
    policies = {
        item["metadata"]["name"]: item["spec"]
        for item in documents("NetworkPolicy")
        if item["metadata"]["namespace"] == "ims-gateway"
    }
    assert policies["ims-gateway"]["ingress"] == []
    (rule,) = policies["cray-ims"]["ingress"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "services"}}}]
    service, names = policies["ims-gateway"]["egress"]
    assert len(service["to"]) == 1
    assert {port["port"] for port in names["ports"]} == {53}


def test_gateway_has_the_name_that_its_clients_use() -> None:
    """They call http://cray-ims/ from their own namespace."""
    services = {item["metadata"]["namespace"]: item["spec"] for item in documents("Service")}
    assert services["services"]["externalName"] == "cray-ims.ims-gateway.svc.cluster.local"
    assert services["ims-gateway"]["ports"][0]["port"] == 80
    (deployment,) = documents("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    (own,) = [
        item["spec"]["podSelector"] for item in documents("NetworkPolicy") if item["metadata"]["name"] == "cray-ims"
    ]
    assert services["ims-gateway"]["selector"] == own["matchLabels"] == labels


def test_gateway_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings are known, its password is where it looks, and its image is the one of this version."""
    (deployment,) = documents("Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for item in container["env"]:
        assert item["name"].removeprefix("IMS_").lower() in Settings.model_fields
        monkeypatch.setenv(item["name"], item["value"])
    own = Settings()
    (mount,) = container["volumeMounts"]
    assert own.gateway_password.parent == Path(mount["mountPath"])
    assert own.gateway_address == ("0.0.0.0", container["ports"][0]["containerPort"])  # noqa: S104
    assert own.airflow_url == "http://airflow-api-server.airflow:8080"
    assert container["image"] == f"registry.example/ims-airflow:{__version__}"
    assert importlib.util.find_spec(container["args"][-1]) is not None
    assert pod["automountServiceAccountToken"] is False
