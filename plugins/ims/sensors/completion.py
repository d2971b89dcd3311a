"""Waits until the administrator has finished the shell of a job."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, Context

from ims.errors import InputError
from ims.jobs import job_id
from ims.operators.errors import task_errors
from ims.triggers.completion import CompletionTrigger

REASONS = {
    "fail": "the shell was given up",
    "expired": "the shell's lease ended before it was finished",
}


class CompletionSensor(BaseOperator):
    """Holds no worker while it waits, however long that is."""

    def execute(self, context: Context) -> None:
        """Hand over to the triggerer."""
        self.defer(trigger=CompletionTrigger(job_id(str(context["run_id"]))), method_name="resume")

    def resume(self, context: Context, event: dict[str, Any]) -> None:
        """Go on, or end the job with the reason."""
        with task_errors(context):
            if event["outcome"] != "complete":
                raise InputError(REASONS[event["outcome"]], "No image was made")
        self.log.info("the shell is finished")
