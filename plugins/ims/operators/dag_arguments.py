"""Arguments of DAGs that are made from the settings and from the models of parameters."""

from __future__ import annotations

from airflow.sdk import CronTriggerTimetable, Param
from pydantic import BaseModel

from ims.params import field_schemas
from ims.settings import settings


def params_of(model: type[BaseModel]) -> dict[str, Param]:
    """A model as params of a DAG, which the trigger form and Airflow's API check."""
    return {
        name: Param(**schema) if "default" in schema else Param(None, **schema)
        for name, schema in field_schemas(model).items()
    }


def timetable(cron: str) -> CronTriggerTimetable | None:
    """The timetable of a setting, in the time zone of the settings; None if the setting is `none`."""
    return None if cron == "none" else CronTriggerTimetable(cron, timezone=settings().nightly_timezone)
