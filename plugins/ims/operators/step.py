"""A step of `ims.steps` as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

from ims.operators.errors import task_errors
from ims.runtime.local import LocalRuntime
from ims.steps.step import load_step


class StepOperator(BaseOperator):
    """Runs the step named like the task in the job's workspace.

    `inputs` are the step's; `each` is added under that name where the task is mapped. Where `only_if` has values, none
    of which is true, the task is skipped.
    """

    template_fields = ("inputs", "each", "only_if")

    def __init__(
        self, *, inputs: dict[str, Any], each: Any = None, only_if: Sequence[Any] = (), **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.inputs = inputs
        self.each = each
        self.only_if = only_if
        self._runtime = LocalRuntime()

    def execute(self, context: Context) -> Any:
        """Run the step; its result is the task's."""
        if self.only_if and not any(self.only_if):
            raise AirflowSkipException("the job does not ask for it")
        data = self.inputs if self.each is None else {**self.inputs, "each": self.each}
        label = f"{self.task_id}-{context['ti'].map_index}"
        with task_errors(context):
            return self._runtime.run(load_step(self.task_id), data, label, self.log.info)

    def on_kill(self) -> None:
        """End the step with the task."""
        self._runtime.kill()
