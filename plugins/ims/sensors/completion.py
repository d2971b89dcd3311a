"""Seed step 5 of customizing: wait until the administrator has finished."""

from __future__ import annotations

from pathlib import Path
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


def marker_files(workspace: str, jail: bool) -> tuple[Path, Path]:
    """Where the files appear that say a shell is finished or given up.

    In the jail the user makes them in the image's /tmp, and so in the overlay; else in /mnt/image, a folder beside it.
    """
    folder = Path(workspace, "changes", "upper", "tmp") if jail else Path(workspace, "image")
    return folder / "complete", folder / "failed"


class CompletionSensor(BaseOperator):
    """Holds no worker while it waits, however long that is."""

    template_fields = ("workspace", "jail")

    def __init__(self, *, workspace: Any, jail: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.workspace = workspace
        self.jail = jail

    def execute(self, context: Context) -> None:
        """Hand over to the triggerer."""
        complete, failed = marker_files(self.workspace, self.jail)
        self.defer(
            trigger=CompletionTrigger(job_id(str(context["run_id"])), str(complete), str(failed)),
            method_name="resume",
        )

    def resume(self, context: Context, event: dict[str, Any]) -> None:
        """Go on, or end the job with the reason."""
        with task_errors(context):
            if event["outcome"] != "complete":
                raise InputError(REASONS[event["outcome"]], "No image was made")
        self.log.info("the shell is finished")
