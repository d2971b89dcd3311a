"""Shells of jobs on Kubernetes: a pod and a service each."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream

from ims.errors import PERMANENT_EXIT_CODES, ImsError, InputError, MissingError, UnavailableError
from ims.jobs import shell_name
from ims.runtime.base import SHELL_STEP, ShellAddress, ShellRequest
from ims.runtime.kubernetes import pods
from ims.runtime.kubernetes.cluster import cluster_errors
from ims.runtime.kubernetes.diagnosis import explain, outcome
from ims.settings import settings
from ims.shell import sshd
from ims.shell.markers import COMPLETE, REFUSAL
from ims.steps.step import load_step
from ims.workspace import Workspace

START_SECONDS = 300
SETTLE_SECONDS = 5
READ_SECONDS = 10


class Shells:
    """The pods and services of shells, which have the same name."""

    def __init__(self, core: client.CoreV1Api) -> None:
        self._core = core
        self._namespace = settings().kubernetes_namespace

    def open(self, request: ShellRequest) -> ShellAddress:
        """Serve a shell; returns its address when it takes connections.

        Raises MissingError if there is no image root to show, ImsError if the shell does not open.
        """
        name = shell_name(request.job_id)
        with cluster_errors():
            self._create(self._core.create_namespaced_pod, pods.shell_pod(load_step(SHELL_STEP), request))
            self._create(self._core.create_namespaced_service, pods.shell_service(request.job_id))
            self._await_ready(name)
            found = self._run(request.job_id, "cat", str(Workspace(request.workspace).shell_address))
            announced = ShellAddress.model_validate_json(found)  # with the address of the pod
            host, port = self._address(name)
        # Nodes learn of the service's pod a moment after the API server does; until then a login would hang.
        sshd.await_answer(host, port, SETTLE_SECONDS)
        command = sshd.command(host, port, request.job_id)
        return announced.model_copy(update={"host": host, "port": port, "command": command})

    def close(self, job_id: str) -> None:
        """Delete the pod and the service of a shell, if they exist, and wait until the pod is gone."""
        name = shell_name(job_id)
        with cluster_errors():
            self._delete(self._core.delete_namespaced_service, name)
            self._delete(self._core.delete_namespaced_pod, name, grace_period_seconds=0)
            deadline = time.monotonic() + START_SECONDS
            while self._find_pod(name) is not None and time.monotonic() < deadline:
                time.sleep(0.5)

    def outcome(self, job_id: str) -> str | None:
        """Returns the result of the step, or None if its pod runs or does not exist."""
        with cluster_errors():
            pod = self._find_pod(shell_name(job_id))
        return None if pod is None or pod.status.phase != "Succeeded" else outcome(pod)[1].get("result")

    def finish(self, job_id: str) -> None:
        """Ask the step to end. Raises ImsError if its pod does not run."""
        workspace = Workspace(Path(pods.workspace(job_id)))
        with cluster_errors():
            refusal, request = (str(workspace.shell_requests / name) for name in (REFUSAL, COMPLETE))
            for command in (("rm", "-f", refusal), ("touch", request)):
                if self._exec(job_id, *command).returncode != 0:  # None if it takes too long
                    raise UnavailableError(f"the shell of the job {job_id} cannot be asked to end: {command[0]} failed")

    def refusal(self, job_id: str) -> str | None:
        """Returns why the shell stays open although it was asked to end, or None if it has not refused."""
        workspace = Workspace(Path(pods.workspace(job_id)))
        with cluster_errors():
            return self._run(job_id, "cat", str(workspace.shell_requests / REFUSAL)) or None

    def _create(self, create: Any, body: Any) -> None:
        """Create an object, unless an earlier try of the task has created it."""
        try:
            create(self._namespace, body)
        except ApiException as error:
            if error.status != 409:
                raise

    def _delete(self, delete: Any, name: str, **options: Any) -> None:
        try:
            delete(name, self._namespace, **options)
        except ApiException as error:
            if error.status != 404:
                raise

    def _find_pod(self, name: str) -> k8s.V1Pod | None:
        try:
            return self._core.read_namespaced_pod(name, self._namespace)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def _await_ready(self, name: str) -> None:
        """Wait until sshd answers. Raises MissingError if there is no image root, ImsError if the pod fails."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            pod = self._find_pod(name)
            if pod is not None and any(status.ready for status in pod.status.container_statuses or []):
                return
            code, message = outcome(pod) if pod is not None else (None, {})
            if code in PERMANENT_EXIT_CODES:
                raise (MissingError if code == MissingError.exit_code else InputError)(message.get("error", ""))
            if time.monotonic() > deadline:
                why = message.get("error") or (pod is not None and explain(pod)) or "its pod gives no reason"
                raise ImsError(f"the shell did not open in {START_SECONDS} s: {why}")
            time.sleep(0.5)

    def _run(self, job_id: str, *command: str) -> str:
        """Run a command in the pod of a shell; returns what it printed, even if it failed."""
        return str(self._exec(job_id, *command).read_stdout())

    def _exec(self, job_id: str, *command: str) -> Any:
        """Run a command in the pod of a shell, for at most READ_SECONDS; returns the connection.

        Raises UnavailableError if the pod takes no command.
        """
        try:
            answer = stream(
                self._core.connect_get_namespaced_pod_exec,
                *(shell_name(job_id), self._namespace),
                command=list(command),
                container=pods.CONTAINER,
                stdout=True,
                _preload_content=False,
            )
        except AttributeError as error:  # the client fails to read an answer that refuses the connection
            reason = getattr(error.__context__, "reason", error)
            why = f"no command can be run in the shell of the job {job_id}: {reason}"
            raise UnavailableError(why, "If the shell has just ended, there is nothing to do") from None
        answer.run_forever(timeout=READ_SECONDS)
        return answer

    def _address(self, name: str) -> tuple[str, int]:
        """Returns host and port at which users reach the shell. Raises ImsError if the service gets no address."""
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
