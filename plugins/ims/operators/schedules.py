"""When workflows run by themselves."""

from __future__ import annotations

from airflow.sdk import CronTriggerTimetable

from ims.settings import settings


def timetable(cron: str) -> CronTriggerTimetable | None:
    """The timetable of a setting, in the time zone of the settings; None where that is `none`."""
    return None if cron == "none" else CronTriggerTimetable(cron, timezone=settings().nightly_timezone)
