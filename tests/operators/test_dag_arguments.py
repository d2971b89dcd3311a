"""Arguments of DAGs that are made from the settings and from the models of parameters."""

from __future__ import annotations

import pytest

from ims.operators.dag_arguments import params_of, timetable
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


@pytest.mark.parametrize("cron", ["none"])
def test_no_schedule(cron: str) -> None:
    """The workflow runs on request only."""
    assert timetable(cron) is None
