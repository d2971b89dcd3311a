"""Shells of jobs on Kubernetes: a pod and a service each."""

from __future__ import annotations

import json
import time
from pathlib import PurePosixPath
from typing import Any

from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream

from ims.errors import PERMANENT_EXIT_CODES, ImsError, InputError, MissingError
from ims.runtime import pods
from ims.runtime.kubernetes import cluster_errors, core_api, explain, outcome
from ims.settings import settings
from ims.shell import sshd
from ims.steps.step import load_step

START_SECONDS = 300
SETTLE_SECONDS = 5


class KubernetesShells:
    """Each has an address of its own."""

    def __init__(self) -> None:
        self._namespace = settings().kubernetes_namespace
        self._core = core_api()

    def open(self, data: dict[str, Any], arch: str | None) -> dict[str, Any]:
        """Serve a shell until it is closed; see `ims.runtime.choice`."""
        workspace = PurePosixPath(data["workspace"])
        name = pods.shell_name(workspace.name)
        with cluster_errors():
            self._make(self._core.create_namespaced_pod, pods.shell_pod(load_step(pods.SHELL), data, arch))
            self._make(self._core.create_namespaced_service, pods.shell_service(workspace.name))
            self._wait_until_ready(name)
            command = ["cat", str(workspace / "shell.json")]
            said = stream(
                self._core.connect_get_namespaced_pod_exec,
                *(name, self._namespace),
                command=command,
                container=pods.CONTAINER,
                stdout=True,
                _preload_content=False,
            )
            said.run_forever(timeout=30)
            host, port = self._address(name)
        # Nodes learn a moment later than the API server that the service has a pod: a login would get stuck until then.
        sshd.await_answer(host, port, SETTLE_SECONDS)
        shell = json.loads(said.read_stdout())
        return {
            "host": host,
            "port": port,
            "fingerprint": shell["fingerprint"],
            "command": sshd.command(host, port, workspace.name),
        }

    def close(self, job_id: str) -> None:
        """End the shell and everything that was started in it."""
        name = pods.shell_name(job_id)
        with cluster_errors():
            self._remove(self._core.delete_namespaced_service, name)
            self._remove(self._core.delete_namespaced_pod, name, grace_period_seconds=0)
            deadline = time.monotonic() + START_SECONDS
            while self._find(name) is not None and time.monotonic() < deadline:
                time.sleep(0.5)

    def outcome(self, job_id: str, jail: bool) -> str | None:
        """What the user's marker says: with it the pod has ended."""
        with cluster_errors():
            pod = self._find(pods.shell_name(job_id))
        return None if pod is None or pod.status.phase != "Succeeded" else outcome(pod)[1].get("result")

    def _make(self, create: Any, wanted: Any) -> None:
        """There already is no error: the task is tried again."""
        try:
            create(self._namespace, wanted)
        except ApiException as error:
            if error.status != 409:
                raise

    def _remove(self, delete: Any, name: str, **options: Any) -> None:
        try:
            delete(name, self._namespace, **options)
        except ApiException as error:
            if error.status != 404:
                raise

    def _find(self, name: str) -> k8s.V1Pod | None:
        try:
            return self._core.read_namespaced_pod(name, self._namespace)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def _wait_until_ready(self, name: str) -> None:
        """Raises MissingError: there is nothing to show; ImsError: it does not start."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            pod = self._find(name)
            if pod is not None and any(status.ready for status in pod.status.container_statuses or []):
                return
            code, said = outcome(pod) if pod is not None else (None, {})
            if code in PERMANENT_EXIT_CODES:
                raise (MissingError if code == MissingError.exit_code else InputError)(said.get("error", ""))
            if time.monotonic() > deadline:
                why = said.get("error") or (pod is not None and explain(pod)) or "it says nothing"
                raise ImsError(f"the shell did not open in {START_SECONDS} s: {why}")
            time.sleep(0.5)

    def _address(self, name: str) -> tuple[str, int]:
        """Where people reach the shell."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            service = self._core.read_namespaced_service(name, self._namespace)
            if service.spec.type == "NodePort":
                return self._node_address(name), service.spec.ports[0].node_port
            if service.spec.type == "ClusterIP":
                return service.spec.cluster_ip, service.spec.ports[0].port
            for entry in service.status.load_balancer.ingress or []:
                return entry.hostname or entry.ip, service.spec.ports[0].port
            if time.monotonic() > deadline:
                raise ImsError(f"the service {name} got no address in {START_SECONDS} s", "Is there a load balancer?")
            time.sleep(1)

    def _node_address(self, name: str) -> str:
        pod = self._core.read_namespaced_pod(name, self._namespace)
        return str(pod.status.host_ip)
