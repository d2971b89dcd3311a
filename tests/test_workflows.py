"""The table of workflows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ims.errors import ImsError
from ims.workflows import (
    CREATE_IMAGE,
    DAG_IDS,
    JOB_DAG_IDS,
    JOB_WORKFLOWS,
    NIGHTLY_IMAGES,
    JobWorkflow,
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
    """Waiting for a user is not among them: only a job with a shell does."""
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


@pytest.mark.parametrize("workflow", JOB_WORKFLOWS, ids=JOB_DAG_IDS)
def test_tasks_of_jobs_have_a_status(workflow: JobWorkflow) -> None:
    """A job has a status at any time."""
    assert all(task.status for task in workflow.tasks)
