"""A step of `ims.steps` as a pod: Airflow's own operator, told what to run and how its failures read."""

from __future__ import annotations

from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException
from kubernetes.client import models as k8s

from ims.errors import PERMANENT_EXIT_CODES, ImsError, InputError
from ims.operators.errors import task_errors
from ims.operators.step import StepTask, architecture
from ims.runtime import pods
from ims.runtime.kubernetes import cluster_errors, explain, outcome
from ims.steps.step import load_step


class PodStepOperator(StepTask, KubernetesPodOperator):
    """Runs the step named like the task in a pod on the job's volume."""

    template_fields = StepTask.template_fields

    def __init__(self, **arguments: Any) -> None:
        super().__init__(
            base_container_name=pods.CONTAINER,
            do_xcom_push=True,
            get_logs=True,
            log_pod_spec_on_failure=False,
            startup_check_interval_seconds=1,
            startup_timeout_seconds=600,
            container_name_log_prefix_enabled=False,
            **arguments,
        )

    def execute(self, context: Context) -> Any:
        """Run the step; its result is the task's."""
        self.skip_unless_wanted()
        step = load_step(self.task_id)
        self.full_pod_spec = pods.step_pod(step, self.data, architecture(context), self.memory_gib)
        with task_errors(context), cluster_errors():
            return super().execute(context)["result"]

    def cleanup(self, pod: k8s.V1Pod, remote_pod: k8s.V1Pod, *arguments: Any, **named: Any) -> None:
        """Remove the pod. Raises ImsError: the step's own reason, or what the cluster says of the pod."""
        try:
            super().cleanup(pod, remote_pod, *arguments, **named)
        except AirflowException:  # the pod's failure; what else goes wrong is not the step's
            raise self._failure(remote_pod) from None

    def _failure(self, pod: k8s.V1Pod) -> ImsError:
        code, said = outcome(pod)
        kind = InputError if code in PERMANENT_EXIT_CODES else ImsError
        if "error" in said:
            return kind(said["error"], said.get("hint", ""))
        why = explain(pod) or f"{self.task_id} ended with exit code {code} without giving a reason"
        return kind(why, "See its log")
