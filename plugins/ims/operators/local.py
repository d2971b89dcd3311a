"""A step of `ims.steps` as a process of this machine."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Context

from ims.logs import parse_line
from ims.operators.base import StepTask
from ims.operators.credentials import service_credentials, temporary_credentials
from ims.operators.templates import with_templates
from ims.runtime.local.process import StepProcess
from ims.steps.step import load_step


class LocalStepOperator(StepTask):
    """Runs the step as a process of this machine. The worker waits for it, whether it is `long` or not."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._process = StepProcess()

    def perform(self, context: Context) -> Any:
        """Returns the result of the step."""
        label = f"{self.task_id}-{context['ti'].map_index}"
        step = load_step(self.task_id)
        credentials = temporary_credentials(step, self.data) or service_credentials(step)
        return self._process.run(step, with_templates(step, self.data), label, self._log_line, credentials)

    def on_kill(self) -> None:
        """End the step with the task."""
        self._process.kill()

    def _log_line(self, line: str) -> None:
        level, message = parse_line(line)
        self.log.log(level, "%s", message)
