"""Airflow runs seen as IMS jobs: status, failed step and reason follow from what Airflow knows of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from ims.api.runs.states import RUN_ENDED, TASK_ENDED, TASK_IDLE, TASK_NOT_BEGUN
from ims.jobs import job_id
from ims.params import JobParams
from ims.workflows import CREATE_IMAGE, WAIT_FOR_COMPLETION, JobType, JobWorkflow, job_workflow

_NOTE_NAME = 200
"""Characters of the name of an image that the note of its run shows. Airflow limits notes to 1000."""


class TaskInstance(BaseModel):
    """A task instance of a job."""

    name: str
    map_index: int = -1
    state: str | None = None
    try_number: int = 0
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def label(self) -> str:
        """The name of the task, with the index of the instance if the task is mapped."""
        return self.name if self.map_index < 0 else f"{self.name}[{self.map_index}]"

    @property
    def has_begun(self) -> bool:
        """Whether the task runs or ran."""
        return self.state not in TASK_NOT_BEGUN

    @property
    def has_ended(self) -> bool:
        """Whether the task ran or will never run."""
        return self.state in TASK_ENDED


class Run(BaseModel):
    """A run of a workflow; its task instances are in the order of the workflow."""

    dag_id: str
    run_id: str
    state: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    conf: dict[str, Any]
    note: str | None
    user: str | None = None
    steps: list[TaskInstance] = []
    reason: str | None = None

    @property
    def job_id(self) -> str:
        """The id of the job."""
        return job_id(self.run_id)

    @property
    def job_type(self) -> JobType:
        """The type of the job."""
        return self._workflow.job_type

    @property
    def _workflow(self) -> JobWorkflow:
        return job_workflow(self.dag_id)

    @property
    def is_cancelled(self) -> bool:
        """Whether the run was cancelled: Airflow then skips the tasks that have not begun."""
        return any(step.state == "skipped" and not self._workflow.task(step.name).optional for step in self.steps)

    @property
    def awaits_clean_up(self) -> bool:
        """Whether the scheduler has nothing left to do in a run that began but to start its teardowns."""
        left = [step for step in self.steps if not step.has_ended]
        return self.state == "running" and all(
            step.state in TASK_IDLE and self._workflow.task(step.name).teardown for step in left
        )

    @property
    def failed(self) -> TaskInstance | None:
        """The first step that failed. The last step, which cleans up, also fails in a run that was cancelled."""
        step = next((step for step in self.steps if step.state == "failed"), None)
        return None if self.is_cancelled and step is self.steps[-1] else step

    @property
    def was_interrupted(self) -> bool:
        """Whether the failed step ended because the run was cancelled: no step but teardowns began after it."""
        begun = [step.name for step in self.steps if step.has_begun and not self._workflow.task(step.name).teardown]
        return self.is_cancelled and self.failed is not None and self.failed.name == begun[-1]

    @property
    def status(self) -> str:
        """The status of the job, as IMS names it."""
        if self.state in RUN_ENDED:
            return "success" if self.state == "success" else "error"
        if self.is_cancelled or (self.failed is not None and not self._is_debugged):
            return "error"
        begun = [step for step in self.steps if step.has_begun]
        return self._workflow.status(begun[-1].name) if begun else "creating"

    @property
    def _is_debugged(self) -> bool:
        """Whether a debug shell on the failed job is open or about to open."""
        wait = next((step for step in self.steps if step.name == WAIT_FOR_COMPLETION), None)
        return self.job.enable_debug and self._workflow is CREATE_IMAGE and not (wait is not None and wait.has_ended)

    @property
    def job(self) -> JobParams:
        """The params of the job, with defaults for those that the run was not given; not validated."""
        model = self._workflow.params
        return model.model_construct(**{name: self.conf[name] for name in model.model_fields if name in self.conf})


def first_note(params: JobParams, run_id: str) -> str:
    """The note of a new run, by which people find it in the UI among others."""
    name = " ".join(params.image_root_archive_name.split())
    return f"image {name[:_NOTE_NAME]}, job {job_id(run_id)}"


def run_of(item: Mapping[str, Any]) -> Run:
    """Returns the run that Airflow's API describes, without its steps."""
    return Run(
        dag_id=item["dag_id"],
        run_id=item["dag_run_id"],
        state=item["state"],
        created=item["run_after"],  # never changes, unlike the time at which it was queued
        started=item["start_date"],
        ended=item["end_date"],
        conf=item["conf"] or {},
        note=item["note"],
        user=item.get("triggering_user_name"),
    )


def new_run(item: Mapping[str, Any]) -> Run:
    """Returns the run of a job that Airflow has just created: none of its steps has begun."""
    run = run_of(item)
    run.steps = [TaskInstance(name=task.id) for task in job_workflow(run.dag_id).tasks]
    return run


def ordered(dag_id: str, items: Iterable[Mapping[str, Any]]) -> list[TaskInstance]:
    """Returns the steps that Airflow's API describes, in the order of the workflow.

    Raises ImsError if the workflow has no such task.
    """
    workflow = job_workflow(dag_id)
    steps = [
        TaskInstance(
            name=item["task_id"],
            map_index=item["map_index"],
            state=item["state"],
            try_number=item["try_number"],
            # Airflow also sets a start time for skipped tasks.
            started=item["start_date"] if item["try_number"] else None,
            ended=item["end_date"],
        )
        for item in items
    ]
    return sorted(steps, key=lambda step: (workflow.position(step.name), step.map_index))
