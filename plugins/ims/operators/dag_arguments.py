"""Arguments of DAGs that are made from the settings and from the models of parameters."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, AssetWatcher, CronTriggerTimetable, Param
from pydantic import BaseModel

from ims.settings import settings
from ims.triggers.publications import PublicationsTrigger
from ims.workflows import Workflow, check_limits

RUN_TYPES: Any = ("manual", "scheduled", "operator_triggered")
"""All types of runs but backfills, whose `conf` nobody checks: to build what was missed, start a run."""
REPOSITORIES = "nightly-repositories"
"""The asset that changes when packages are published to a repository of a nightly recipe."""


def params_of(model: type[BaseModel]) -> dict[str, Param]:
    """A model as params of a DAG, which the trigger form and Airflow's API check."""
    return {
        name: Param(**schema) if "default" in schema else Param(None, **schema)
        for name, schema in _field_schemas(model).items()
    }


def timetable(cron: str) -> CronTriggerTimetable | None:
    """The timetable of a setting, in the time zone of the settings; None if the setting is `none`."""
    return None if cron == "none" else CronTriggerTimetable(cron, timezone=settings().nightly_timezone)


def night_schedule() -> dict[str, Any]:
    """The arguments of the DAG that say when nights start, by the setting `build_on`."""
    own = settings()
    cron = timetable(own.nightly_schedule)
    if own.build_on == "schedule":
        return {"schedule": cron, "allowed_run_types": RUN_TYPES}
    watcher = AssetWatcher(name="index", trigger=PublicationsTrigger(str(own.ca_certificate_path)))
    repositories = Asset(REPOSITORIES, uri="x-ims://nightly-repositories", watchers=[watcher])
    schedule: Any = [repositories]
    if own.build_on == "both" and cron is not None:
        schedule = AssetOrTimeSchedule(timetable=cron, assets=[repositories])
    return {"schedule": schedule, "allowed_run_types": (*RUN_TYPES, "asset_triggered")}


def run_limit(workflow: Workflow) -> timedelta:
    """The `dagrun_timeout` of a workflow. Raises ConfigurationError: the settings of limits are wrong."""
    check_limits(settings())
    return timedelta(seconds=workflow.limit(settings()))


def limit_tasks(dag: DAG, workflow: Workflow) -> None:
    """Give each task of a DAG its pool and its time limit. Raises ImsError: the workflow has no such task."""
    for task in dag.tasks:
        entry = workflow.task(task.task_id)
        task.pool = entry.pool
        task.execution_timeout = timedelta(seconds=entry.limit(settings()))


def _field_schemas(job: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """The JSON schema of each field. The trigger form cannot show `anyOf`, so it is one list of types."""
    schema = job.model_json_schema()
    return {name: _flat(field) for name, field in schema["properties"].items()}


def _flat(field: dict[str, Any]) -> dict[str, Any]:
    choices = field.pop("anyOf", None)
    if not choices:
        return field
    merged = {key: value for choice in choices for key, value in choice.items() if key != "type"}
    return {**field, **merged, "type": [choice["type"] for choice in choices]}
