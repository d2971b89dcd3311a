"""Arguments of DAGs that are made from the settings and from the models of parameters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable

from ims.operators.dag_arguments import REPOSITORIES, night_schedule, params_of, timetable
from ims.params import CreateParams
from ims.settings import settings


def test_params() -> None:
    """The trigger form gets title, section and description of each parameter."""
    params = params_of(CreateParams)
    assert list(params) == list(CreateParams.model_fields)
    kernel = params["kernel_file_name"]
    assert kernel.value is None
    assert kernel.schema["type"] == ["string", "null"]
    assert {"title", "section", "pattern"} <= set(kernel.schema)
    assert kernel.description


def test_required_param() -> None:
    """It has no value, so a run without it is refused."""
    artifact = params_of(CreateParams)["artifact_id"]
    assert artifact.value is None
    assert artifact.schema["type"] == "string"


def test_schedule() -> None:
    """A cron expression is in the time zone of the settings."""
    found = timetable("0 3 * * *")
    assert found is not None
    assert str(found.timezone) == settings().nightly_timezone


def test_what_starts_nights(configure: Callable[..., None]) -> None:
    """The schedule, publications, or both; one asset stands for the repositories."""
    configure(build_on="schedule", nightly_schedule="0 1 * * *")
    assert isinstance(night_schedule()["schedule"], CronTriggerTimetable)
    assert "asset_triggered" not in night_schedule()["allowed_run_types"]
    configure(build_on="both")
    both = night_schedule()["schedule"]
    assert isinstance(both, AssetOrTimeSchedule)
    configure(build_on="publication")
    (asset,) = night_schedule()["schedule"]
    assert asset.name == REPOSITORIES
    (watcher,) = asset.watchers
    assert watcher.trigger.ca_certificate == str(settings().ca_certificate_path)
    assert "asset_triggered" in night_schedule()["allowed_run_types"]
    configure(build_on="both", nightly_schedule="none")
    assert night_schedule()["schedule"] == [asset]


@pytest.mark.parametrize("cron", ["none"])
def test_no_schedule(cron: str) -> None:
    """The workflow runs on request only."""
    assert timetable(cron) is None
