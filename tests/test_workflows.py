"""The table of workflows."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from ims.errors import ConfigurationError, ImsError
from ims.pools import DEFAULT, pools
from ims.settings import Settings
from ims.stack.credentials import Credentials
from ims.stack.environment import airflow_environment
from ims.workflows import (
    CREATE_IMAGE,
    CUSTOMIZE_IMAGE,
    DAG_IDS,
    JOB_DAG_IDS,
    JOB_WORKFLOWS,
    NIGHTLY_IMAGES,
    PLAN_IMAGES,
    PLAN_RECIPES,
    WORKFLOWS,
    JobWorkflow,
    check_limits,
    find_workflow,
    job_workflow,
)

PLUGINS = Path(__file__).parents[1] / "plugins"


def test_lookups() -> None:
    """A workflow is found by its DAG id."""
    assert find_workflow("create_image") is CREATE_IMAGE
    assert find_workflow("somebody_elses") is None
    assert job_workflow("create_image") is CREATE_IMAGE
    with pytest.raises(ImsError, match="runs of nightly_images are not jobs"):
        job_workflow(NIGHTLY_IMAGES.dag_id)


def test_unknown_task_is_an_error() -> None:
    """A task that is missing from the table is reported, not ignored."""
    assert CREATE_IMAGE.status("fetch_recipe") == "fetching_recipe"
    with pytest.raises(ImsError, match="create_image has no task bake_cake"):
        CREATE_IMAGE.status("bake_cake")


def test_statuses_of_every_successful_job() -> None:
    """Waiting for a user is not among them, because only a job with a shell waits."""
    assert CREATE_IMAGE.required_statuses == (
        "creating",
        "fetching_recipe",
        "waiting_for_repos",
        "building_image",
        "packaging_artifacts",
    )


def test_dag_ids_are_written_in_the_table_only() -> None:
    """Other modules take them from the table. A step may have the name of a workflow."""
    for path in PLUGINS.rglob("*.py"):
        if path.name == "workflows.py" or path.parent.name == "steps":
            continue
        constants = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not constants & set(DAG_IDS), path
    for path in PLUGINS.rglob("*.html"):
        assert not any(dag_id in path.read_text() for dag_id in DAG_IDS), path


def test_limits_are_replaced_by_settings() -> None:
    """Those that a setting does not name keep the limit of the table."""
    own = Settings(step_seconds={"build_image": 60}, run_seconds={"plan_images": 86400})
    assert CREATE_IMAGE.task("build_image").limit(own) == 60
    assert CREATE_IMAGE.task("package_artifacts").limit(own) == CREATE_IMAGE.task("package_artifacts").seconds
    assert PLAN_IMAGES.limit(own) == 86400
    check_limits(own)


WRONG_LIMITS = {
    "unknown task": ({"step_seconds": {"bake_cake": 60}}, "IMS_STEP_SECONDS names what does not exist: bake_cake"),
    "unknown workflow": ({"run_seconds": {"build_image": 60}}, "IMS_RUN_SECONDS names what does not exist"),
    "a run shorter than its tasks": ({"run_seconds": {"plan_images": 60}}, "plan_images are limited to 60 s, but"),
}


@pytest.mark.parametrize(("values", "reason"), WRONG_LIMITS.values(), ids=WRONG_LIMITS)
def test_wrong_limits_are_refused(values: dict[str, Any], reason: str) -> None:
    """The stack does not start, and Airflow reports the DAGs as broken."""
    with pytest.raises(ConfigurationError, match=reason):
        check_limits(Settings(**values))


@pytest.mark.parametrize("parallelism", [1, 4, 100])
def test_all_pools_fit_into_airflow(parallelism: int) -> None:
    """Full pools leave the slots of the others free, on machines of any size."""
    own = Settings(parallelism=parallelism)
    assert all(pool.slots >= 1 for pool in pools(own))
    environment = airflow_environment(own, Credentials.generate())
    assert int(environment["AIRFLOW__CORE__PARALLELISM"]) == sum(pool.slots for pool in pools(own))


def test_builds_share_no_pool_with_shells_plans_and_teardowns() -> None:
    """Builds and scripts that never end block none of them."""
    endless = {task.pool for workflow in WORKFLOWS for task in workflow.tasks if task.runs_recipe}
    needed = {task.pool for workflow in WORKFLOWS for task in workflow.tasks if task.teardown or "shell" in task.id}
    assert not endless & {
        *needed,
        DEFAULT,
        CUSTOMIZE_IMAGE.task("fetch_image").pool,
        PLAN_IMAGES.task(PLAN_RECIPES).pool,
    }


def test_customizations_wait_for_no_build() -> None:
    """Whoever finishes a shell does not wait until builds end, nor does the packing of other builds."""
    build = CREATE_IMAGE.task("build_image").pool
    assert build not in {task.pool for task in CUSTOMIZE_IMAGE.tasks}
    assert build != CREATE_IMAGE.task("package_artifacts").pool


@pytest.mark.parametrize("workflow", JOB_WORKFLOWS, ids=JOB_DAG_IDS)
def test_tasks_of_jobs_have_a_status(workflow: JobWorkflow) -> None:
    """A job has a status at any time."""
    assert all(task.status for task in workflow.tasks)
