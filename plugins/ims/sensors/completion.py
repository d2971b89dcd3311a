"""The task that waits until the user has finished with the shell."""

from __future__ import annotations

from typing import Any, Never

from airflow.sdk import Context

from ims.errors import ImsError, PermanentError
from ims.jobs import job_id
from ims.operators.base import ImsOperator, workspace_of
from ims.operators.errors import task_errors
from ims.operators.shell import withdraw_request
from ims.triggers.completion import CompletionTrigger
from ims.workflows import WAITS_FOR

REASONS = {
    "fail": ("the shell was given up", "Start the job again to get an image"),
    "disk-full": (
        "the disk of the job is almost full, and the job takes more space than it asked for",
        "Set build_env_size, or make room on the disk (IMS_DISK_RESERVE_MIB)",
    ),
    "expired": ("the shell's lease ended before it was finished", "Start the job again with a longer lease"),
}


class CompletionSensor(ImsOperator):
    """Waits in the triggerer, so it occupies no worker. If the shell is finished, the triggerer ends the task.

    If the shell cannot be finished, the XCom WAITS_FOR says why, and the request of the user is withdrawn.
    """

    def perform(self, context: Context) -> None:
        """Hand over to the triggerer."""
        self._wait(context)

    def resume(self, context: Context, event: dict[str, Any]) -> None:
        """End the job with the reason, or wait on if the shell refused to end."""
        if "refusal" in event:
            self._withdraw(context, event["refusal"])
            self._wait(context)
        with task_errors(context):
            raise PermanentError(*REASONS[event["outcome"]])

    def _wait(self, context: Context) -> Never:
        trigger = CompletionTrigger(job_id(str(context["run_id"])), workspace_of(context))
        self.defer(trigger=trigger, method_name="resume")

    def _withdraw(self, context: Context, refusal: str) -> None:
        """Keep the reason, and withdraw the request, so that the shell can be finished or given up later.

        If the API does not answer, the shell is asked once more, and refuses once more.
        """
        reason = f"the shell was not finished. {refusal}"
        self.log.warning("%s", reason)
        context["ti"].xcom_push(WAITS_FOR, reason)
        try:
            withdraw_request(context)
        except ImsError as error:
            self.log.warning("%s", error)
