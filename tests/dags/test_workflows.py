"""The workflows as Airflow sees them."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import TriggerRule
from jinja2 import Template

from ims.pools import DEFAULT, pools
from ims.settings import settings
from ims.steps.step import load_step
from ims.workflows import DAG_IDS, JOB_DAG_IDS, JOB_WORKFLOWS, NIGHTLY_IMAGES, WORKFLOWS, Workflow

DAGS = Path(__file__).parents[2] / "dags"

SERIALIZE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
print(json.dumps({name: DagSerialization.to_dict(dag) for name, dag in bag.dags.items()}, sort_keys=True, default=str))
"""


def parse(home: Path) -> str:
    """The serialized DAGs, parsed by a new process with `home` as AIRFLOW_HOME."""
    environment = {"PATH": "/usr/bin:/bin", "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    done = subprocess.run(
        [sys.executable, "-c", SERIALIZE, DAGS], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AIRFLOW_HOME, which serialized DAGs mention."""
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture(scope="module")
def parsed(home: Path) -> str:
    """The serialized DAGs."""
    return parse(home)


def tasks_of(parsed: str, workflow: Workflow) -> dict[str, Any]:
    """The serialized tasks of a workflow, by id."""
    tasks = [task["__var"] for task in json.loads(parsed)[workflow.dag_id]["dag"]["tasks"]]
    return {task["task_id"]: task for task in tasks}


def test_parsing_twice_gives_the_same(parsed: str, home: Path) -> None:
    """Otherwise Airflow stores a new version of a DAG at every parse, and running jobs change underway."""
    assert parse(home) == parsed
    assert "object at 0x" not in parsed


def test_table_lists_all_dags(parsed: str) -> None:
    """The DAG ids of the table are those of the DAGs."""
    assert sorted(json.loads(parsed)) == sorted(DAG_IDS)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=DAG_IDS)
def test_table_agrees_with_dag(parsed: str, workflow: Workflow) -> None:
    """The tasks and the parameters of the table are those of the DAG."""
    assert sorted(task.id for task in workflow.tasks) == sorted(tasks_of(parsed, workflow))
    params = {name for name, _ in json.loads(parsed)[workflow.dag_id]["dag"].get("params", [])}
    assert params == set(workflow.params.model_fields)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=DAG_IDS)
def test_order_follows_the_arrows(parsed: str, workflow: Workflow) -> None:
    """A task comes after all tasks that it waits for."""
    for task_id, task in tasks_of(parsed, workflow).items():
        for later in task.get("downstream_task_ids", []):
            assert workflow.position(task_id) < workflow.position(later), (task_id, later)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=DAG_IDS)
def test_optional_tasks(parsed: str, workflow: Workflow) -> None:
    """A task is optional if it has a condition, or if it is skipped together with all tasks that it waits for."""
    tasks = tasks_of(parsed, workflow)
    optional: set[str] = set()
    for task in workflow.tasks:
        waits_for = {name for name, other in tasks.items() if task.id in other.get("downstream_task_ids", [])}
        needs_one = tasks[task.id].get("trigger_rule") == TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
        if tasks[task.id].get("run_if") or (waits_for and waits_for <= optional and not needs_one):
            optional.add(task.id)
    assert {task.id for task in workflow.tasks if task.optional} == optional


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=DAG_IDS)
def test_teardowns(parsed: str, workflow: Workflow) -> None:
    """The teardowns of the table are those of the DAG."""
    teardowns = {task_id for task_id, task in tasks_of(parsed, workflow).items() if task.get("is_teardown")}
    assert {task.id for task in workflow.tasks if task.teardown} == teardowns


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=DAG_IDS)
def test_everything_has_a_limit(parsed: str, workflow: Workflow) -> None:
    """Every task has the limit and the pool of the table. The run leaves room for the limits of its tasks."""
    tasks = tasks_of(parsed, workflow)
    limits = {task_id: _argument(task, "execution_timeout") for task_id, task in tasks.items()}
    assert limits == {task.id: task.seconds for task in workflow.tasks}
    assert all(limits.values())
    dag = json.loads(parsed)[workflow.dag_id]["dag"]
    assert dag["dagrun_timeout"] == workflow.seconds
    assert dag["dagrun_timeout"] >= sum(limits.values())


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=DAG_IDS)
def test_every_task_has_its_pool(parsed: str, workflow: Workflow) -> None:
    """The pools exist: Airflow never starts a task of a pool that does not."""
    used = {task_id: _argument(task, "pool", DEFAULT) for task_id, task in tasks_of(parsed, workflow).items()}
    assert used == {task.id: task.pool for task in workflow.tasks}
    assert set(used.values()) <= {pool.name for pool in pools(settings())}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=DAG_IDS)
def test_every_task_has_another_try(parsed: str, workflow: Workflow) -> None:
    """Airflow can lose any try, whatever the task does. The next run does what a lost scrub did not."""
    tries = {task_id: _argument(task, "retries", 0) for task_id, task in tasks_of(parsed, workflow).items()}
    assert tries.pop("scrub_images", 0) == 0
    assert all(tries.values()), tries


def _argument(task: dict[str, Any], name: str, default: Any = None) -> Any:
    """An argument of a task; those of a mapped task are apart."""
    found = task.get(name, task.get("partial_kwargs", {}).get(name, default))
    return found["__var"] if isinstance(found, dict) else found


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 255, "site"], ids=["long", "bytes", "short"])
def test_name_of_a_build_in_a_night(parsed: str, name: str) -> None:
    """Airflow's database has a limit for it. Names of recipes may have 255 characters."""
    column = TaskInstance.__table__.c.rendered_map_index
    label = Template(tasks_of(parsed, NIGHTLY_IMAGES)["build_images"]["partial_kwargs"]["map_index_template"])
    shown = label.render(task={"build": {"name": name}})
    assert name.startswith(shown)
    assert min(len(name), 100) <= len(shown) <= column.type.length


@pytest.mark.parametrize("workflow", JOB_WORKFLOWS, ids=JOB_DAG_IDS)
def test_end_of_a_job(parsed: str, workflow: Workflow) -> None:
    """Each batch of artifacts is uploaded in parallel; the last task always runs, and decides about the run."""
    tasks = tasks_of(parsed, workflow)
    assert tasks["upload_artifacts"]["_is_mapped"]
    assert "package_artifacts" in str(tasks["upload_artifacts"]["expand_input"])
    last = tasks["close_workspace"]
    assert last["is_teardown"]
    assert last["on_failure_fail_dagrun"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.dag_id)
def test_who_opens_a_workspace(parsed: str, workflow: Workflow) -> None:
    """On Kubernetes, a step without privileges finds a workspace that a privileged step has opened, or it `begins`."""
    tasks = tasks_of(parsed, workflow)
    steps = {name: load_step(name) for name in tasks if find_spec(f"ims.steps.{name}")}
    opened = set().union(*(_below(name, tasks) for name, step in steps.items() if step.privileged))
    assert [name for name, step in steps.items() if not (step.privileged or step.begins or name in opened)] == []


def _below(name: str, tasks: dict[str, Any]) -> set[str]:
    """The tasks that follow a task."""
    after = set(tasks[name].get("downstream_task_ids", ()))
    return after.union(*(_below(other, tasks) for other in after))
