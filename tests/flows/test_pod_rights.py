"""The rights of pods and of Airflow's workers in a real cluster are those that they declare."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.client import models as k8s

from ims.runtime.kubernetes import pods
from ims.steps.step import Step, load_step
from tests.deploy.test_docs import block, run
from tests.deploy.test_manifests import DEPLOY, documents
from tests.flows.conftest import RECIPES
from tests.flows.pods import Cluster, require_own_node
from tests.flows.rpm_repository import RepositoryServer
from tests.service import ENDED, Service

pytestmark = pytest.mark.kubernetes

NAMESPACES = ("ims", "airflow")
VERBS = ("create", "get", "list", "watch", "update", "patch", "delete", "deletecollection")
# Other rights that would be dangerous: in the namespace of the jobs, elsewhere, and in the whole cluster.
OTHERS = (
    *("secrets", "configmaps", "serviceaccounts", "serviceaccounts/token", "nodes", "namespaces", "persistentvolumes"),
    *("pods/attach", "pods/portforward", "pods/ephemeralcontainers", "services/proxy", "nodes/proxy", "endpoints"),
    *("roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io"),
    *("clusterrolebindings.rbac.authorization.k8s.io", "deployments.apps", "jobs.batch"),
    *("networkpolicies.networking.k8s.io", "podsecuritypolicies.policy"),
)


@pytest.fixture
def worker(service: Service, cluster: Cluster) -> client.AuthorizationV1Api:
    """A client of the cluster with the rights of Airflow's workers."""
    return client.AuthorizationV1Api(config.new_client_from_config(str(service.settings.kubernetes_config)))


def may(worker: client.AuthorizationV1Api, namespace: str, kind: str, verb: str) -> bool:
    """Return whether a worker may do this with `kind`, which is resource[.group][/subresource]."""
    name, _, part = kind.partition("/")
    resource, _, group = name.partition(".")
    attributes = k8s.V1ResourceAttributes(
        namespace=namespace, group=group, resource=resource, subresource=part or None, verb=verb
    )
    review = k8s.V1SelfSubjectAccessReview(spec=k8s.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes))
    return bool(worker.create_self_subject_access_review(review).status.allowed)


def declared() -> set[tuple[str, str]]:
    """Return the pairs (kind, verb) of the role in deploy/rbac.yaml."""
    (role,) = documents("Role")
    return {(kind, verb) for rule in role["rules"] for kind in rule["resources"] for verb in rule["verbs"]}


def test_role_is_all(worker: client.AuthorizationV1Api, cluster: Cluster) -> None:
    """A worker has the rights of its role in the namespace of the jobs, and no other rights anywhere."""
    wanted = declared()
    kinds = {kind for kind, _ in wanted} | set(OTHERS)
    allowed = {(kind, verb) for kind in kinds for verb in VERBS if may(worker, cluster.namespace, kind, verb)}
    assert allowed == wanted
    for namespace in ("default", "kube-system", ""):
        assert {(kind, verb) for kind in kinds for verb in VERBS if may(worker, namespace, kind, verb)} == set()


def test_pods_have_what_steps_declare(
    service: Service,
    cluster: Cluster,
    http_server: RepositoryServer,
) -> None:
    """Every pod of a job has the rights that its step declares, as the cluster runs it."""
    recipe = service.push(RECIPES / "zypper", "sles15", REPOSITORY=http_server.url)
    job = service.create(recipe["id"])
    seen: dict[str, k8s.V1Pod] = {}
    while service.client.get(f"jobs/{job['id']}")["status"] not in ENDED:
        seen |= {pod.metadata.labels["ims.step"]: pod for pod in cluster.pods(job["id"])}
    assert service.client.get(f"jobs/{job['id']}")["status"] == "success"
    assert {"fetch_recipe", "build_ca_package", "build_image", "package_artifacts", "upload_artifacts"} <= set(seen)
    for name, pod in seen.items():
        assert_rights(pod, load_step(name), service.settings.kubernetes_recipe_secret)


def assert_rights(pod: k8s.V1Pod, declared_step: Step[Any], recipe_secret: str) -> None:
    """Assert: no token, only containers of privileged steps are privileged, and only steps that use S3 have keys.

    Only the step that renders a recipe has the secrets of recipes.
    """
    privileged, s3 = declared_step.privileged, declared_step.s3 is not None
    name = pod.metadata.labels["ims.step"]
    assert pod.spec.automount_service_account_token is False, name
    assert not pod.spec.host_network, name
    assert not pod.spec.host_pid, name
    assert {volume.host_path for volume in pod.spec.volumes} == {None}, name
    assert not [volume for volume in pod.spec.volumes if volume.projected], name
    mounted = {volume.secret.secret_name for volume in pod.spec.volumes if volume.secret}
    assert mounted == ({recipe_secret} if declared_step.renders else set()), name
    step = next(container for container in pod.spec.containers if container.name == pods.CONTAINER)
    rights = step.security_context
    assert bool(rights.privileged) is privileged, name
    if not privileged:
        assert (rights.run_as_user, rights.run_as_non_root, rights.read_only_root_filesystem) == (1000, True, True), (
            name
        )
        assert (rights.allow_privilege_escalation, rights.capabilities.drop) == (False, ["ALL"]), name
        assert pod.spec.security_context.seccomp_profile.type == "RuntimeDefault", name
    keys = {variable.name for variable in step.env if variable.value_from is not None}
    assert keys == (set(pods.S3_KEYS) if s3 else set()), name
    secrets = {variable.value_from.secret_key_ref.name for variable in step.env if variable.value_from is not None}
    assert all(secret.startswith(pods.volume_name(pod.metadata.labels[pods.JOB])) for secret in secrets), name
    for container in (*pod.spec.containers, *(pod.spec.init_containers or [])):
        assert (
            container.name == pods.CONTAINER or not (container.security_context or k8s.V1SecurityContext()).privileged
        )


def test_documented_commands(cluster: Cluster, tmp_path: Path) -> None:
    """The commands of docs/deploy.md create the Secrets and ConfigMaps that the values of the chart name."""
    require_own_node()
    certificate = tmp_path / "ca.pem"
    certificate.write_text("certificate")
    given = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "se/cr+et",
        "AWS_ENDPOINT_URL": "https://rgw.example",
        "DATABASE": "ims:a%40b@db.example",
        "VALKEY": ":password@valkey.example:6379",
        "SITE_CA": str(certificate),
        "KUBECONFIG": os.environ["KUBECONFIG"],
        "PATH": os.environ["PATH"],
    }
    (tmp_path / "deploy").symlink_to(DEPLOY)
    texts = (
        "kubectl apply -f deploy",
        "cat >connections.env",
        "create secret generic ims-s3",
        "secret generic airflow-broker",
    )
    try:
        run("\n".join(block(text) for text in texts), tmp_path, **given)
        made = {name: names(cluster, name) for name in NAMESPACES}
        assert made["ims"] >= {"ims-s3", "ims-site-ca"}
        wanted = ("s3", "site-ca", "connections", "records")
        assert made["airflow"] >= {
            *(f"ims-{name}" for name in wanted),
            "airflow-metadata",
            "airflow-keys",
            "airflow-broker",
        }
        assert list(tmp_path.glob("*.env")) == []
    finally:
        for name in NAMESPACES:
            cluster.core.delete_namespace(name)


def names(cluster: Cluster, namespace: str) -> set[str]:
    """Return the names of the Secrets and ConfigMaps of a namespace."""
    found: list[Any] = cluster.core.list_namespaced_secret(namespace).items
    found += cluster.core.list_namespaced_config_map(namespace).items
    return {item.metadata.name for item in found}
