"""The table of workflows: DAG id, job type, parameters and tasks of each.

Other modules look up DAG ids and task ids here; a test compares the table with the parsed DAGs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pydantic import BaseModel

from ims.errors import ImsError
from ims.params import CreateParams, CustomizeParams, JobParams, MaintenanceParams, NightParams, PlanParams

JobType = Literal["create", "customize"]
RunningStatus = Literal[
    "creating",
    "fetching_recipe",
    "fetching_image",
    "waiting_for_repos",
    "building_image",
    "waiting_on_user",
    "packaging_artifacts",
]
JobStatus = Literal[RunningStatus, "success", "error"]

FAILURE = "failure"
"""Key of the XCom in which a failed task leaves its reason, one sentence."""
NIGHTLY_POOL = "nightly"
"""Airflow's pool that limits how many builds of a night run at the same time."""

OPEN_WORKSPACE = "open_workspace"
WAIT_FOR_COMPLETION = "wait_for_completion"
CHOOSE_RECIPES = "choose_recipes"
PLAN_RECIPES = "plan_images"
CHOOSE_BUILDS = "choose_builds"
BUILD_RECIPES = "build_images"
SUMMARIZE = "summarize"


@dataclass(frozen=True)
class Task:
    """A task of a workflow.

    `status` is the status of a job while the task runs; only the tasks of jobs have one. An optional task skips
    itself if the job does not need it. A teardown also runs after a failure or a cancellation.
    """

    id: str
    status: RunningStatus | None = None
    optional: bool = False
    teardown: bool = False


@dataclass(frozen=True)
class Workflow:
    """A DAG, its parameters and its tasks in order."""

    dag_id: str
    params: type[BaseModel]
    tasks: tuple[Task, ...]

    def task(self, task_id: str) -> Task:
        """Raises ImsError: the workflow has no such task."""
        return self.tasks[self.position(task_id)]

    def position(self, task_id: str) -> int:
        """The place of a task in the order. Raises ImsError: the workflow has no such task."""
        if task_id not in self._positions:
            raise ImsError(f"the workflow {self.dag_id} has no task {task_id}", "Add it to the table in ims.workflows")
        return self._positions[task_id]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {task.id: number for number, task in enumerate(self.tasks)}


@dataclass(frozen=True)
class JobWorkflow(Workflow):
    """A workflow whose runs are jobs."""

    params: type[JobParams]
    job_type: JobType

    def status(self, task_id: str) -> RunningStatus:
        """The status of a job while the task runs. Raises ImsError: the workflow has no such task."""
        status = self.task(task_id).status
        assert status is not None
        return status

    @property
    def required_statuses(self) -> tuple[RunningStatus, ...]:
        """The statuses that every successful job passes through, in order."""
        return tuple(dict.fromkeys(self.status(task.id) for task in self.tasks if not task.optional))


CREATE_IMAGE = JobWorkflow(
    "create_image",
    CreateParams,
    job_type="create",
    tasks=(
        Task(OPEN_WORKSPACE, "creating"),
        Task("fetch_recipe", "fetching_recipe"),
        Task("wait_for_repositories", "waiting_for_repos"),
        Task("build_ca_package", "waiting_for_repos"),
        Task("resolve_packages", "waiting_for_repos"),
        Task("build_image", "building_image"),
        Task("package_artifacts", "packaging_artifacts"),
        Task("upload_artifacts", "packaging_artifacts"),
        Task("write_manifest", "packaging_artifacts"),
        Task("save_image_record", "packaging_artifacts"),
        Task("start_debug_shell", "building_image", optional=True),
        Task(WAIT_FOR_COMPLETION, "waiting_on_user", optional=True),
        Task("stop_shell", "waiting_on_user", optional=True, teardown=True),
        Task("close_workspace", "packaging_artifacts", teardown=True),
    ),
)
CUSTOMIZE_IMAGE = JobWorkflow(
    "customize_image",
    CustomizeParams,
    job_type="customize",
    tasks=(
        Task(OPEN_WORKSPACE, "creating"),
        Task("fetch_image", "fetching_image"),
        Task("run_script", "building_image", optional=True),
        Task("start_shell", "fetching_image", optional=True),
        Task(WAIT_FOR_COMPLETION, "waiting_on_user", optional=True),
        Task("stop_shell", "packaging_artifacts", optional=True, teardown=True),
        Task("list_changes", "packaging_artifacts"),
        Task("package_artifacts", "packaging_artifacts"),
        Task("upload_artifacts", "packaging_artifacts"),
        Task("write_manifest", "packaging_artifacts"),
        Task("save_image_record", "packaging_artifacts"),
        Task("close_workspace", "packaging_artifacts", teardown=True),
    ),
)
PLAN_IMAGES = Workflow(
    "plan_images",
    PlanParams,
    tasks=(Task(CHOOSE_RECIPES), Task(PLAN_RECIPES), Task("close_workspace", teardown=True)),
)
NIGHTLY_IMAGES = Workflow(
    "nightly_images",
    NightParams,
    tasks=(
        Task(CHOOSE_RECIPES),
        Task(PLAN_RECIPES),
        Task("close_workspace", teardown=True),
        Task(CHOOSE_BUILDS),
        Task(BUILD_RECIPES),
        Task(SUMMARIZE),
        Task("notify", teardown=True),
    ),
)
IMAGE_MAINTENANCE = Workflow(
    "image_maintenance",
    MaintenanceParams,
    tasks=(
        Task("list_records"),
        Task("list_workspaces"),
        Task("sweep_records", optional=True),
        Task("sweep_workspaces", optional=True),
    ),
)

JOB_WORKFLOWS = (CREATE_IMAGE, CUSTOMIZE_IMAGE)
WORKFLOWS: tuple[Workflow, ...] = (*JOB_WORKFLOWS, PLAN_IMAGES, NIGHTLY_IMAGES, IMAGE_MAINTENANCE)
DAG_IDS = tuple(workflow.dag_id for workflow in WORKFLOWS)
JOB_DAG_IDS = tuple(workflow.dag_id for workflow in JOB_WORKFLOWS)


def find_workflow(dag_id: str) -> Workflow | None:
    """The workflow with a DAG id; None if the DAG is not ours."""
    return next((workflow for workflow in WORKFLOWS if workflow.dag_id == dag_id), None)


def job_workflow(dag_id: str) -> JobWorkflow:
    """The workflow of jobs with a DAG id. Raises ImsError: the DAG's runs are not jobs."""
    for workflow in JOB_WORKFLOWS:
        if workflow.dag_id == dag_id:
            return workflow
    raise ImsError(f"the runs of {dag_id} are not jobs")
