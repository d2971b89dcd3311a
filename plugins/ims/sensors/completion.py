"""The task that waits until the user has finished with the shell."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Context

from ims.errors import PermanentError
from ims.jobs import job_id
from ims.operators.base import ImsOperator, workspace_of
from ims.operators.errors import task_errors
from ims.triggers.completion import CompletionTrigger

REASONS = {
    "fail": ("the shell was given up", "Start the job again to get an image"),
    "disk-full": (
        "the disk of the job is almost full, and the job takes more space than it asked for",
        "Set build_env_size, or make room on the disk (IMS_DISK_RESERVE_MIB)",
    ),
    "expired": ("the shell's lease ended before it was finished", "Start the job again with a longer lease"),
}


class CompletionSensor(ImsOperator):
    """Waits in the triggerer, so it occupies no worker."""

    def perform(self, context: Context) -> None:
        """Hand over to the triggerer."""
        trigger = CompletionTrigger(job_id(str(context["run_id"])), workspace_of(context))
        self.defer(trigger=trigger, method_name="resume")

    def resume(self, context: Context, event: dict[str, Any]) -> None:
        """Continue with the job, or end it with the reason."""
        with task_errors(context):
            if event["outcome"] != "complete":
                raise PermanentError(*REASONS[event["outcome"]])
        self.log.info("the shell is finished")
