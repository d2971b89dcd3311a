"""What all tasks share: a condition that skips them, and errors that end them with a reason."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, Context, TriggerRule
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.exceptions import AirflowSkipException, DownstreamTasksSkipped

from ims.jobs import workspace_id
from ims.operators.conditions import Condition
from ims.operators.errors import log_reason, task_errors, time_limit
from ims.operators.inputs import check_inputs

LEASE_MARGIN = timedelta(seconds=60)


def task_defaults(*, retries: int = 2, retry_delay: float = 10) -> dict[str, Any]:
    """The `default_args` of a workflow; `retry_delay` is in seconds."""
    return {
        "retries": retries,
        "retry_delay": timedelta(seconds=retry_delay),
        "on_failure_callback": log_reason,
        "on_retry_callback": log_reason,
    }


def workspace_of(context: Context) -> str:
    """The id of the workspace of a run."""
    return workspace_id(context["dag"].dag_id, str(context["run_id"]))


class ImsOperator(BaseOperator):
    """A task that skips itself unless its condition holds. An ImsError ends it with the reason."""

    template_fields: Sequence[str] = ("run_if",)

    def __init__(self, *, run_if: Condition | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.run_if = run_if

    def execute(self, context: Context) -> Any:
        """Do the work. Raises AirflowSkipException: the condition does not hold."""
        if self.run_if is not None and not self.run_if.holds:
            raise AirflowSkipException("the parameters of the run do not ask for this task")
        with task_errors(context), time_limit(self, context):
            result = self.perform(context)
        return self._skip_unneeded(context, result)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after the triggerer has waited. Raises AirflowException: the wait took too long."""
        with task_errors(context), time_limit(self, context):
            result = super().resume_execution(next_method, next_kwargs, context)
        return self._skip_unneeded(context, result)

    def _skip_unneeded(self, context: Context, result: Any) -> Any:
        """Returns the result. Raises DownstreamTasksSkipped: the run does not ask for some of the next tasks.

        Such a task would skip itself, but not before its pool has a slot for it. A task that also follows tasks that
        may still run, and fail, is left to itself.
        """
        if not self.downstream_task_ids:
            return result
        ended = {self.task_id, *self.get_flat_relative_ids(upstream=True)}
        skipped = [
            task.task_id
            for task in self.downstream_list
            if isinstance(task, ImsOperator) and task.upstream_task_ids <= ended and task.is_not_needed(context)
        ]
        if not skipped:
            return result
        self._push_result(context, result)
        raise DownstreamTasksSkipped(tasks=skipped)

    def _push_result(self, context: Context, result: Any) -> None:
        """Store the result as Airflow does, which drops that of a task that raises."""
        outputs = dict(result) if self.multiple_outputs else {}
        if result is not None:
            outputs[BaseXCom.XCOM_RETURN_KEY] = result
        for key, value in outputs.items():
            context["ti"].xcom_push(key, value)

    def is_not_needed(self, context: Context) -> bool:
        """Whether the task, which has not begun, would skip itself if all tasks before it succeed."""
        if self.run_if is None or self.trigger_rule != TriggerRule.ALL_SUCCESS:
            return False
        values = self.render_template(self.run_if.values, context)
        return not Condition(values, expected=self.run_if.expected).holds

    @abstractmethod
    def perform(self, context: Context) -> Any:
        """Do the work; returns the result of the task. Raises ImsError."""


class StepTask(ImsOperator):
    """A task that runs the step with its name.

    `inputs` are the fields of the step's input; a mapped task adds `each`. `arch` is the architecture of the image, to
    which the node must fit; None: any node fits. `memory_gib` limits the memory of a pod. A `long` step takes minutes:
    its operator should occupy no worker meanwhile, if the runtime allows it. `lease` shortens the time limit of the
    task: so many seconds, and LEASE_MARGIN, in which the step can report itself that the time is over.
    """

    template_fields: Sequence[str] = (*ImsOperator.template_fields, "inputs", "each", "arch", "memory_gib", "lease")

    def __init__(
        self,
        *,
        inputs: dict[str, Any],
        each: Any = None,
        arch: Any = None,
        memory_gib: Any = None,
        long: bool = False,
        lease: Any = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.inputs = inputs
        self.each = each
        self.arch = arch
        self.memory_gib = memory_gib
        self.long = long
        self.lease = lease
        check_inputs(self.task_id, self.data)

    def pre_execute(self, context: Any) -> None:
        """Shorten the time limit to the lease of the job."""
        super().pre_execute(context)
        if self.lease is not None and self.execution_timeout is not None:
            self.execution_timeout = min(self.execution_timeout, timedelta(seconds=self.lease) + LEASE_MARGIN)

    @property
    def data(self) -> dict[str, Any]:
        """The input of the step."""
        return self.inputs if self.each is None else {**self.inputs, "each": self.each}
