"""A step of `ims.steps` as a pod, through Airflow's own operator for pods."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import PurePosixPath
from typing import Any

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import (
    KubernetesApiException,
    PodLaunchFailedException,
)
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import (
    PodManager,
    PodNotFoundException,
    PodPhase,
    detect_pod_terminate_early_issues,
)
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowTaskTimeout
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from ims.errors import ImsError, StepFailedError, UnavailableError
from ims.logs import parse_line
from ims.operators.base import StepTask
from ims.operators.credentials import temporary_credentials
from ims.operators.errors import out_of_time, task_errors
from ims.operators.templates import no_secrets, with_templates
from ims.runtime.kubernetes import pods
from ims.runtime.kubernetes.cluster import GONE, await_cluster, cluster_errors, core_api
from ims.runtime.kubernetes.credentials import store_credentials
from ims.runtime.kubernetes.diagnosis import explain, outcome
from ims.settings import settings
from ims.steps.outcome import MARK
from ims.steps.step import Step, load_step

LOG_SECONDS = 5
POLL_SECONDS = 0.2
STATUS_SECONDS = 3
"""How long the cluster may take, after the end of its log, to report that a container has ended."""
SOON_SECONDS = 20
"""How long a task polls its pod often: until the pod has started, and until a long step ends or the task defers."""
MARGIN_SECONDS = 300
"""How long after the time limit of the task the cluster ends the pod."""


class PatientPodManager(PodManager):
    """Waits until the cluster reports that a container has ended. Otherwise, its log would be read twice."""

    def container_is_running(self, pod: k8s.V1Pod, container_name: str) -> bool:
        """Whether a container whose log has ended is still running."""
        deadline = time.monotonic() + STATUS_SECONDS
        while (is_running := super().container_is_running(pod, container_name)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return bool(is_running)


class PodStepOperator(StepTask, KubernetesPodOperator):
    """Runs the step in a pod that mounts the volume of the job. The last message of its container has the result.

    While a `long` step runs, the triggerer follows its log, and the task occupies no worker, except for the first
    SOON_SECONDS: to continue in another process takes seconds.
    """

    template_fields = StepTask.template_fields

    def __init__(self, **arguments: Any) -> None:
        super().__init__(
            poll_interval=1,
            logging_interval=LOG_SECONDS,
            base_container_name=pods.CONTAINER,
            do_xcom_push=True,
            get_logs=True,
            log_pod_spec_on_failure=False,
            on_finish_action="delete_succeeded_pod" if settings().kubernetes_keep_failed else "delete_pod",
            startup_check_interval_seconds=1,
            startup_timeout_seconds=600,
            container_name_log_prefix_enabled=False,
            log_formatter=_without_level,
            **arguments,
        )
        self.deferrable = self.long
        self._exit_code: int | None = None
        self._outcome: dict[str, Any] = {}

    @cached_property
    def pod_manager(self) -> PodManager:
        """Reads the log and the state of the pod."""
        return PatientPodManager(kube_client=self.client, callbacks=self.callbacks)

    def perform(self, context: Context) -> Any:
        """Returns the result of the step."""
        step = load_step(self.task_id)
        data = with_templates(step, self.data, no_secrets)
        with cluster_errors():
            await_cluster()
            secret = self._store_credentials(step)
            self.full_pod_spec = pods.step_pod(step, data, self.arch, self.memory_gib, secret)
            if self.execution_timeout is not None:
                # The cluster ends the pod, even if Airflow is gone.
                limit = self.execution_timeout.total_seconds() + MARGIN_SECONDS
                self.full_pod_spec.spec.active_deadline_seconds = round(limit)
            with self._without_sidecar():
                KubernetesPodOperator.execute(self, context)
        return self._result()

    @contextmanager
    def _without_sidecar(self) -> Iterator[None]:
        """Keep the base class from adding a sidecar, which it does for every task that returns a result."""
        self.do_xcom_push = False
        try:
            yield
        finally:
            self.do_xcom_push = True

    def _result(self) -> Any:
        """Returns the result of the step. Raises UnavailableError if its pod is gone."""
        if "result" not in self._outcome:
            raise UnavailableError(*GONE)
        return self._outcome["result"]

    def _store_credentials(self, step: Step[Any]) -> str | None:
        """Create a Secret with the temporary S3 credentials of the step; returns its name, or None without any."""
        given = temporary_credentials(step, self.data)
        job_id = PurePosixPath(self.data["workspace"]).name
        return store_credentials(core_api(), job_id, step.name, given) if given else None

    def get_or_create_pod(self, pod_request_obj: k8s.V1Pod, context: Context) -> k8s.V1Pod:
        """Create the pod, or return that of an earlier try whose worker was lost.

        The base class would create another pod if the earlier one has succeeded, because its sidecar would be gone.
        """
        if context["ti"].try_number > 1:
            earlier = self.find_pod(pod_request_obj.metadata.namespace, context)
            if earlier is not None and _has_result(earlier, pod_request_obj):
                return earlier
        return super().get_or_create_pod(pod_request_obj, context)

    def await_pod_start(self, pod: k8s.V1Pod) -> None:
        """Wait until the pod runs. Raises AirflowException: its image cannot be pulled, or it takes too long."""
        try:
            if self._poll(pod, _has_started, SOON_SECONDS):
                return
            self._await_init_containers(pod)
            super().await_pod_start(pod)  # logs the events of the pod, for which the cluster reads those of all pods
        except AirflowException:
            self.remote_pod = self.pod_manager.read_pod(pod)  # its status has the reason
            raise

    def await_pod_completion(self, pod: k8s.V1Pod) -> None:  # type: ignore[override]  # the base class decorates it
        """Follow the log until the pod has ended. If its state is not known yet, the base class waits two seconds."""
        super().await_pod_completion(pod)
        self._poll(pod, _has_ended, SOON_SECONDS)

    def invoke_defer_method(self, last_log_time: Any = None, context: Context | None = None) -> None:
        """Leave the pod to the triggerer, unless it ends soon."""
        assert self.pod is not None
        try:
            self._poll(self.pod, _has_ended, SOON_SECONDS)
            self.pod = self.pod_manager.read_pod(self.pod)
        except (ApiException, HTTPError, KubernetesApiException) as error:
            self.log.warning("the triggerer waits for the pod: %s", error)
        super().invoke_defer_method(last_log_time, context)

    def _poll(self, pod: k8s.V1Pod, condition: Callable[[k8s.V1Pod], bool], seconds: float) -> bool:
        """Returns whether the condition holds for the pod within this time. A pod that cannot start ends the wait."""
        deadline = time.monotonic() + seconds
        while not condition(now := self.pod_manager.read_pod(pod)):
            if time.monotonic() > deadline or detect_pod_terminate_early_issues(now):
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _await_init_containers(self, pod: k8s.V1Pod) -> None:
        """Wait until the init containers have ended; the base class does not check them."""
        deadline = time.monotonic() + self.startup_timeout_seconds
        while pod.spec.init_containers and not _is_initialized(now := self.pod_manager.read_pod(pod)):
            status = k8s.V1Pod(status=k8s.V1PodStatus(container_statuses=now.status.init_container_statuses))
            if why := detect_pod_terminate_early_issues(status):
                raise PodLaunchFailedException(why)
            if time.monotonic() > deadline:
                raise PodLaunchFailedException(f"the pod did not start within {self.startup_timeout_seconds} s")
            time.sleep(self.startup_check_interval_seconds)

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        """Returns the result of the step, after the triggerer has seen the pod end."""
        with task_errors(context), cluster_errors():
            await_cluster()
            try:
                with self._without_sidecar():
                    super().trigger_reentry(context, event)
            except PodNotFoundException:
                pass
            except (AirflowException, ImsError):
                if event.get("status") != "timeout":
                    raise
                self.on_kill()
                raise out_of_time(self, context) from None
            return self._result()

    def cleanup(self, pod: k8s.V1Pod, remote_pod: k8s.V1Pod, *arguments: Any, **named: Any) -> None:
        """Read the outcome of the step and delete the pod.

        Raises ImsError with the reason of the step, or that of the cluster, if the pod failed.
        """
        if remote_pod is not None:
            self._read_outcome(remote_pod)
        try:
            super().cleanup(pod, remote_pod, *arguments, **named)
        except AirflowException as error:  # the pod failed
            if isinstance(error.__context__, AirflowTaskTimeout):
                raise error.__context__ from None
            raise self._failure(remote_pod) from None

    def _read_outcome(self, pod: k8s.V1Pod) -> None:
        """Read the outcome of the step. Raises ImsError if it can never be read: the next try needs another pod."""
        try:
            self._exit_code, self._outcome = outcome(pod, partial(self._read_log, pod))
        except ImsError:
            self.process_pod_deletion(pod, reraise=False)
            raise

    def _read_log(self, pod: k8s.V1Pod, lines: int) -> str:
        answer = self.client.read_namespaced_pod_log(
            *(pod.metadata.name, pod.metadata.namespace),
            container=pods.CONTAINER,
            tail_lines=lines,
            _preload_content=False,
        )
        return str(answer.data.decode(errors="replace"))

    def _failure(self, pod: k8s.V1Pod) -> ImsError:
        code, said, why = self._exit_code, self._outcome, explain(pod)
        if code is None:  # the cluster ended the pod before the step did
            return UnavailableError(why or f"the pod of {self.task_id} ended before the step", "See its log")
        if "error" in said:
            return StepFailedError(": ".join(filter(None, (why, said["error"]))), said.get("hint", ""), code)
        reason = why or f"{self.task_id} ended with exit code {code} without giving a reason"
        return StepFailedError(reason, "See its log", code)


def _without_level(_container: str, line: str) -> str:
    """The message of a line; Airflow has already taken the level from its prefix."""
    return "(a part of the result)" if line.startswith(MARK) else parse_line(line)[1]


def _has_result(earlier: k8s.V1Pod, wanted: k8s.V1Pod) -> bool:
    """Whether a pod has run the step that is wanted, on the same input, and succeeded."""
    ran, runs = ((pod.metadata.annotations or {}).get(pods.INPUT_ANNOTATION) for pod in (earlier, wanted))
    return bool(earlier.status.phase == PodPhase.SUCCEEDED and ran == runs)


def _has_started(pod: k8s.V1Pod) -> bool:
    return bool(pod.status.phase != PodPhase.PENDING)


def _has_ended(pod: k8s.V1Pod) -> bool:
    return pod.status.phase in PodPhase.terminal_states


def _is_initialized(pod: k8s.V1Pod) -> bool:
    """Whether all init containers have ended."""
    states = [status.state for status in pod.status.init_container_statuses or []]
    return pod.status.phase != PodPhase.PENDING or (states != [] and all(state.terminated for state in states))
