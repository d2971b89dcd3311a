"""The manifests of deploy/ against Kubernetes' own schemas, and what they let whom do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from ims.runtime.kubernetes import pods
from ims.steps.step import load_step

DEPLOY = Path(__file__).parents[2] / "deploy"
VERSIONS = ("1.28", kubernetes_validate.latest_version())
PRIVILEGED = {"ims": "privileged", "airflow": "baseline"}
# What the code asks of a cluster, and the operator of Airflow that it uses.
VERBS = {
    "pods": {"create", "get", "list", "watch", "patch", "delete", "deletecollection"},
    "pods/log": {"get"},
    "pods/exec": {"create", "get"},
    "events": {"list", "watch"},
    "services": {"create", "get", "list", "delete"},
    "persistentvolumeclaims": {"create", "list", "deletecollection"},
}


def documents(*kinds: str) -> list[dict[str, Any]]:
    """Every object of the manifests, of these kinds if there are any."""
    found = [item for path in sorted(DEPLOY.glob("*.yaml")) for item in yaml.safe_load_all(path.read_text())]
    return [item for item in found if not kinds or item["kind"] in kinds]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("item", documents(), ids=lambda item: f"{item['kind']}-{item['metadata']['name']}")
def test_schema(item: dict[str, Any], version: str) -> None:
    """No field that Kubernetes does not know, in old versions and new ones."""
    kubernetes_validate.validate(item, version, strict=True)


def test_schema_is_strict() -> None:
    """The test above is not idle."""
    item = documents("Role")[0]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**item, "rule": []}, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", ["build_image", "fetch_image"])
def test_pods_of_steps(name: str) -> None:
    """What we send is valid too."""
    from kubernetes.client import ApiClient

    pod = pods.step_pod(load_step(name), {"workspace": "/mnt/workspaces/0c7d1a52"}, "x86_64", 4)
    sent = ApiClient().sanitize_for_serialization(pod)
    kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **sent}, VERSIONS[-1], strict=True)


def test_rights() -> None:
    """One role, in the namespace of the jobs, without secrets; nothing for a whole cluster."""
    assert documents("ClusterRole", "ClusterRoleBinding") == []
    (role,) = documents("Role")
    rights = {name: set(rule["verbs"]) for rule in role["rules"] for name in rule["resources"]}
    assert rights == VERBS
    assert all(rule["apiGroups"] == [""] for rule in role["rules"])
    (binding,) = documents("RoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_pod_security() -> None:
    """Of every namespace it is said how much its pods may; only the jobs' may be privileged."""
    label = "pod-security.kubernetes.io/enforce"
    assert {
        item["metadata"]["name"]: item["metadata"]["labels"][label] for item in documents("Namespace")
    } == PRIVILEGED


@pytest.mark.parametrize("namespace", PRIVILEGED)
def test_nobody_reaches_a_pod_unless_allowed(namespace: str) -> None:
    """There is a policy for all pods, and the others open one port each."""
    policies = [item for item in documents("NetworkPolicy") if item["metadata"]["namespace"] == namespace]
    closed = [item for item in policies if item["spec"]["podSelector"] == {}]
    assert len(closed) == 1
    assert "Ingress" in closed[0]["spec"]["policyTypes"]
    for item in policies:
        if item not in closed:
            assert [len(rule["ports"]) for rule in item["spec"]["ingress"]] == [1]


def test_link_local_addresses_are_closed() -> None:
    """Where clouds hand out a node's rights; a recipe's scripts run in these pods."""
    (policy,) = [item for item in documents("NetworkPolicy") if item["metadata"]["name"] == "ims-steps"]
    to_anywhere, names = policy["spec"]["egress"]
    blocks = [peer["ipBlock"] for peer in to_anywhere["to"] if "ipBlock" in peer]
    assert "169.254.0.0/16" in blocks[0]["except"]
    assert {port["port"] for port in names["ports"]} == {53}
