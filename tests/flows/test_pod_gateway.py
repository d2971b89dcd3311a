"""The manifests of the gateway in a real cluster. The node of tests has no DNS and enforces no network policies."""

from __future__ import annotations

import subprocess
import sysconfig
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from kubernetes.client import models as k8s

from ims.settings import GATEWAY_USER
from tests.deploy.test_manifests import DEPLOY
from tests.flows.pods import Cluster, require_own_node
from tests.flows.waiting import wait_for
from tests.node.images import STEPS
from tests.service import Service

pytestmark = pytest.mark.kubernetes

CLIENTS = "services"
PYTHON = "/opt/ims/bin/python"
# The image of the gateway is that of Airflow, which the node has not: the packages come from this machine.
PACKAGES = "/packages"
CALLS = """
import json
from urllib.error import HTTPError
from urllib.request import Request, urlopen
for method, path in ("GET", "/images"), ("GET", "/v3/jobs"), ("DELETE", "/images"), ("GET", "/apis/ims/v3/images"):
    try:
        with urlopen(Request(f"http://cray-ims{path}", method=method)) as answer:
            print(answer.status, type(json.load(answer)).__name__)
    except HTTPError as error:
        print(error.code)
"""


@pytest.fixture
def address(service: Service, cluster: Cluster) -> Iterator[str]:
    """The address of the Service of a gateway that is ready, in a cluster with the namespace of its clients."""
    require_own_node()
    core = cluster.core
    core.create_namespace(k8s.V1Namespace(metadata=k8s.V1ObjectMeta(name=CLIENTS)))
    try:
        documents = list(yaml.safe_load_all((DEPLOY / "gateway.yaml").read_text()))
        (deployment,) = (document for document in documents if document["kind"] == "Deployment")
        _run_from_this_machine(deployment["spec"]["template"]["spec"], service)
        subprocess.run(["kubectl", "apply", "-f", "-"], input=yaml.safe_dump_all(documents), text=True, check=True)
        password = {"gateway-password": service.settings.gateway_password.read_text()}
        secret = k8s.V1Secret(metadata=k8s.V1ObjectMeta(name=GATEWAY_USER), string_data=password)
        core.create_namespaced_secret(GATEWAY_USER, secret)
        wait_for(lambda: len(_ready(cluster)) == 2, 180)
        yield core.read_namespaced_service("cray-ims", GATEWAY_USER).spec.cluster_ip
    finally:
        for name in (GATEWAY_USER, CLIENTS):
            core.delete_collection_namespaced_pod(name, grace_period_seconds=0)
            core.delete_namespace(name)


def _run_from_this_machine(pod: dict[str, Any], service: Service) -> None:
    (container,) = pod["containers"]
    container |= {"image": STEPS, "command": [PYTHON], "args": container["args"][1:]}
    given = {"IMS_HOST": service.settings.host, "IMS_PORT": str(service.settings.port)}
    others = [item for item in container["env"] if item["name"] not in given]
    path = {"PYTHONPATH": f"/opt/ims/plugins:{PACKAGES}"}
    container["env"] = others + [{"name": name, "value": value} for name, value in (given | path).items()]
    container["volumeMounts"].append({"name": "packages", "mountPath": PACKAGES, "readOnly": True})
    pod["volumes"].append({"name": "packages", "hostPath": {"path": sysconfig.get_path("purelib")}})


def _ready(cluster: Cluster) -> list[k8s.V1Pod]:
    pods = cluster.core.list_namespaced_pod(GATEWAY_USER).items
    return [pod for pod in pods if any(status.ready for status in pod.status.container_statuses or [])]


def test_gateway(cluster: Cluster, address: str) -> None:
    """A pod in the namespace of CFS and BOS reads images without a token, and may not delete them."""
    container = k8s.V1Container(name="client", image=STEPS, command=[PYTHON, "-c", CALLS])
    name = k8s.V1HostAlias(ip=address, hostnames=["cray-ims"])
    spec = k8s.V1PodSpec(restart_policy="Never", containers=[container], host_aliases=[name])
    pod = k8s.V1Pod(metadata=k8s.V1ObjectMeta(name="client"), spec=spec)
    cluster.core.create_namespaced_pod(CLIENTS, pod)
    wait_for(lambda: cluster.core.read_namespaced_pod("client", CLIENTS).status.phase in ("Succeeded", "Failed"), 60)
    log = cluster.core.read_namespaced_pod_log("client", CLIENTS, _preload_content=False).data.decode()
    assert log.splitlines() == ["200 list", "200 list", "403", "403"]
