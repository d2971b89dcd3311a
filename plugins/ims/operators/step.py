"""A step of `ims.steps` as a task."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, Context

from ims.operators.errors import task_errors
from ims.runtime.local import LocalRuntime
from ims.steps.step import load_step


class StepOperator(BaseOperator):
    """Runs the step named like the task in the job's workspace.

    `inputs` are the step's; `each` is added under that name where the task is mapped.
    """

    template_fields = ("inputs", "each")

    def __init__(self, *, inputs: dict[str, Any], each: Any = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.inputs = inputs
        self.each = each
        self._runtime = LocalRuntime()

    def execute(self, context: Context) -> Any:
        """Run the step; its result is the task's."""
        data = self.inputs if self.each is None else {**self.inputs, "each": self.each}
        label = f"{self.task_id}-{context['ti'].map_index}"
        with task_errors(context):
            return self._runtime.run(load_step(self.task_id), data, label, self.log.info)

    def on_kill(self) -> None:
        """End the step with the task."""
        self._runtime.kill()
