"""A step of `ims.steps` as a process of this machine."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Context

from ims.operators.base import StepTask
from ims.operators.errors import task_errors
from ims.runtime.local.process import StepProcess
from ims.steps.step import load_step


class LocalStepOperator(StepTask):
    """Runs the step named like the task as a process of this machine, whose worker waits for it, `long` or not."""

    def __init__(self, *, long: bool = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._process = StepProcess()

    def execute(self, context: Context) -> Any:
        """Run the step; its result is the task's."""
        self.skip_unless_wanted()
        label = f"{self.task_id}-{context['ti'].map_index}"
        with task_errors(context):
            return self._process.run(load_step(self.task_id), self.data, label, self.log.info)

    def on_kill(self) -> None:
        """End the step with the task."""
        self._process.kill()
