"""The table of workflows: DAG id, job type, parameters and tasks of each.

Other modules look up DAG ids and task ids here; a test compares the table with the parsed DAGs. Every task has a limit
and a pool, and every workflow has a limit that leaves room for those of its tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pydantic import BaseModel

from ims.errors import ConfigurationError, ImsError
from ims.params import (
    MAX_LEASE,
    MAX_REPOSITORY_WAIT,
    CreateParams,
    CustomizeParams,
    JobParams,
    MaintenanceParams,
    NightParams,
    PlanParams,
)
from ims.pools import BUILDS, DEFAULT, NIGHTLY, PACKING, PLANS, SCRIPTS, SCRUBS, SHELLS, TEARDOWNS
from ims.settings import Settings

JobType = Literal["create", "customize"]
JobDagId = Literal["create_image", "customize_image"]
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
ENVIRONMENT_FAILED = "environment_failed"
"""Key of the XCom of a failed task that says that the failure is not one of the recipe."""

WAITS_FOR = "waits_for"
"""Key of the XCom in which a task that waits says what it waits for."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
SHORT = 15 * _MINUTE
"""The limit of tasks that take seconds, with room for a slow cluster."""

OPEN_WORKSPACE = "open_workspace"
FETCH_RECIPE = "fetch_recipe"
WAIT_FOR_COMPLETION = "wait_for_completion"
WAIT_FOR_REPOSITORIES = "wait_for_repositories"
CHOOSE_RECIPES = "choose_recipes"
PLAN_RECIPES = "plan_images"
CHOOSE_BUILDS = "choose_builds"
CHOOSE_IMAGES = "choose_images"
REPLAY_IMAGES = "replay_images"
BUILD_RECIPES = "build_images"
SUMMARIZE = "summarize"


@dataclass(frozen=True)
class Task:
    """A task of a workflow.

    `status` is the status of a job while the task runs; only the tasks of jobs have one. An optional task is
    skipped if the job does not need it. A teardown also runs after a failure or a cancellation.

    After `seconds`, the task is ended with everything that it started; the setting `step_seconds` replaces them. The
    limits are for images of 20 GB. `runs_recipe` says whose fault that is: the task runs what a recipe or a user wrote.
    """

    id: str
    status: RunningStatus | None = None
    optional: bool = False
    teardown: bool = False
    pool: str = DEFAULT
    seconds: int = SHORT
    runs_recipe: bool = False

    def limit(self, own: Settings) -> int:
        """The limit of the task in this installation, in seconds."""
        return own.step_seconds.get(self.id, self.seconds)


@dataclass(frozen=True)
class Workflow:
    """A DAG, its parameters and its tasks in order.

    After `seconds`, Airflow ends a run without its teardowns, so that maintenance has to sweep its workspace. The
    setting `run_seconds` replaces them. The limits of the tasks usually end a run before, unless the lease of its shell
    is extended again and again.
    """

    dag_id: str
    params: type[BaseModel]
    tasks: tuple[Task, ...]
    seconds: int

    def limit(self, own: Settings) -> int:
        """The limit of a run in this installation, in seconds.

        Raises ConfigurationError: the limits of the tasks do not fit in.
        """
        limit, needed = own.run_seconds.get(self.dag_id, self.seconds), sum(task.limit(own) for task in self.tasks)
        if limit < needed:
            raise ConfigurationError(
                f"runs of {self.dag_id} are limited to {limit} s, but the limits of its tasks add up to {needed} s",
                "Raise IMS_RUN_SECONDS, or lower IMS_STEP_SECONDS",
            )
        return limit

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
    seconds=90 * _DAY,
    job_type="create",
    tasks=(
        Task(OPEN_WORKSPACE, "creating"),
        Task(FETCH_RECIPE, "fetching_recipe", pool=BUILDS, seconds=_HOUR, runs_recipe=True),
        Task(WAIT_FOR_REPOSITORIES, "waiting_for_repos", seconds=MAX_REPOSITORY_WAIT + SHORT),
        Task("build_ca_package", "waiting_for_repos", pool=BUILDS),
        Task("resolve_packages", "waiting_for_repos", pool=BUILDS, seconds=_HOUR, runs_recipe=True),
        Task("build_image", "building_image", pool=BUILDS, seconds=6 * _HOUR, runs_recipe=True),
        Task("package_artifacts", "packaging_artifacts", pool=PACKING, seconds=3 * _HOUR, runs_recipe=True),
        Task("upload_artifacts", "packaging_artifacts", pool=PACKING, seconds=3 * _HOUR),
        Task("write_manifest", "packaging_artifacts"),
        Task("save_image_record", "packaging_artifacts"),
        Task("start_debug_shell", "building_image", optional=True, pool=SHELLS),
        Task(WAIT_FOR_COMPLETION, "waiting_on_user", optional=True, pool=SHELLS, seconds=MAX_LEASE + SHORT),
        Task("stop_shell", "waiting_on_user", optional=True, teardown=True, pool=TEARDOWNS),
        Task("close_workspace", "packaging_artifacts", teardown=True, pool=TEARDOWNS, seconds=_HOUR),
    ),
)
CUSTOMIZE_IMAGE = JobWorkflow(
    "customize_image",
    CustomizeParams,
    seconds=90 * _DAY,
    job_type="customize",
    tasks=(
        Task(OPEN_WORKSPACE, "creating"),
        Task("fetch_image", "fetching_image", pool=SHELLS, seconds=3 * _HOUR),
        Task("run_script", "building_image", optional=True, pool=SCRIPTS, seconds=MAX_LEASE + SHORT, runs_recipe=True),
        Task("start_shell", "fetching_image", optional=True, pool=SHELLS),
        Task(WAIT_FOR_COMPLETION, "waiting_on_user", optional=True, pool=SHELLS, seconds=MAX_LEASE + SHORT),
        Task("stop_shell", "packaging_artifacts", optional=True, teardown=True, pool=TEARDOWNS),
        Task("list_changes", "packaging_artifacts", pool=PACKING, seconds=_HOUR, runs_recipe=True),
        Task("package_artifacts", "packaging_artifacts", pool=PACKING, seconds=3 * _HOUR, runs_recipe=True),
        Task("upload_artifacts", "packaging_artifacts", pool=PACKING, seconds=3 * _HOUR),
        Task("write_manifest", "packaging_artifacts"),
        Task("save_image_record", "packaging_artifacts"),
        Task("close_workspace", "packaging_artifacts", teardown=True, pool=TEARDOWNS, seconds=_HOUR),
    ),
)
PLAN_IMAGES = Workflow(
    "plan_images",
    PlanParams,
    seconds=6 * _HOUR,
    tasks=(
        Task(CHOOSE_RECIPES),
        Task(PLAN_RECIPES, pool=PLANS, seconds=2 * _HOUR),
        Task("close_workspace", teardown=True, pool=TEARDOWNS, seconds=_HOUR),
    ),
)
NIGHTLY_IMAGES = Workflow(
    "nightly_images",
    NightParams,
    seconds=3 * _DAY,
    tasks=(
        Task(CHOOSE_RECIPES),
        Task(CHOOSE_IMAGES),
        Task(PLAN_RECIPES, pool=PLANS, seconds=2 * _HOUR),
        Task("describe_builder", optional=True, pool=PLANS),
        Task("close_workspace", teardown=True, pool=TEARDOWNS, seconds=_HOUR),
        Task(CHOOSE_BUILDS),
        Task(BUILD_RECIPES, pool=NIGHTLY),
        Task(REPLAY_IMAGES, optional=True, pool=NIGHTLY),
        Task(SUMMARIZE),
        Task("notify", teardown=True, pool=TEARDOWNS),
    ),
)
IMAGE_MAINTENANCE = Workflow(
    "image_maintenance",
    MaintenanceParams,
    seconds=_DAY,
    tasks=(
        Task("list_records", pool=TEARDOWNS, seconds=2 * _HOUR),
        Task("list_workspaces", pool=TEARDOWNS, seconds=2 * _HOUR),
        Task("sweep_records", optional=True, pool=TEARDOWNS, seconds=4 * _HOUR),
        Task("sweep_workspaces", optional=True, pool=TEARDOWNS, seconds=4 * _HOUR),
        Task("scrub_images", optional=True, pool=SCRUBS, seconds=5 * _HOUR),
    ),
)

JOB_WORKFLOWS = (CREATE_IMAGE, CUSTOMIZE_IMAGE)
WORKFLOWS: tuple[Workflow, ...] = (*JOB_WORKFLOWS, PLAN_IMAGES, NIGHTLY_IMAGES, IMAGE_MAINTENANCE)
DAG_IDS = tuple(workflow.dag_id for workflow in WORKFLOWS)
JOB_DAG_IDS = tuple(workflow.dag_id for workflow in JOB_WORKFLOWS)


def check_limits(own: Settings) -> None:
    """Raises ConfigurationError: a setting names a task or a workflow that does not exist, or limits do not add up."""
    _check_names("IMS_STEP_SECONDS", own.step_seconds, {task.id for workflow in WORKFLOWS for task in workflow.tasks})
    _check_names("IMS_RUN_SECONDS", own.run_seconds, set(DAG_IDS))
    for workflow in WORKFLOWS:
        workflow.limit(own)


def _check_names(setting: str, limits: Mapping[str, int], known: set[str]) -> None:
    if unknown := sorted(set(limits) - known):
        raise ConfigurationError(
            f"{setting} names what does not exist: {', '.join(unknown)}", f"Use some of {', '.join(sorted(known))}"
        )


def find_workflow(dag_id: str) -> Workflow | None:
    """The workflow with a DAG id; None if the DAG is not ours."""
    return next((workflow for workflow in WORKFLOWS if workflow.dag_id == dag_id), None)


def job_workflow(dag_id: str) -> JobWorkflow:
    """The workflow of jobs with a DAG id. Raises ImsError: the DAG's runs are not jobs."""
    for workflow in JOB_WORKFLOWS:
        if workflow.dag_id == dag_id:
            return workflow
    raise ImsError(f"the runs of {dag_id} are not jobs")
