"""The task that waits until the user has finished with the shell."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from ims.errors import UnavailableError
from ims.operators import shell
from ims.sensors.completion import CompletionSensor
from ims.triggers.completion import CompletionTrigger
from ims.workflows import WAITS_FOR
from tests.operators.fakes import RUN_ID, WORKSPACE_ID, FakeApi, make_context, xcoms


def sensor() -> CompletionSensor:
    """The task."""
    return CompletionSensor(task_id="wait_for_completion")


def test_task_hands_over_to_the_triggerer() -> None:
    """It occupies no worker while it waits."""
    with pytest.raises(TaskDeferred) as deferred:
        sensor().execute(make_context())
    assert isinstance(deferred.value.trigger, CompletionTrigger)
    assert deferred.value.trigger.job_id == RUN_ID
    assert deferred.value.trigger.workspace_id == WORKSPACE_ID
    assert deferred.value.method_name == "resume"


@pytest.mark.parametrize("is_available", [True, False])
def test_shell_stays_open(monkeypatch: pytest.MonkeyPatch, is_available: bool) -> None:
    """The request is withdrawn, the reason is kept for the API, and the task waits on. An outage only delays that."""
    path = f"jobs/{RUN_ID}/shell/operation"
    api = FakeApi(**{path: None if is_available else UnavailableError("the API does not answer")})
    monkeypatch.setattr(shell, "api_client", lambda: api)
    context = make_context()
    with pytest.raises(TaskDeferred) as deferred:
        sensor().resume(context, {"refusal": "The image has no /boot/initrd"})
    assert isinstance(deferred.value.trigger, CompletionTrigger)
    assert xcoms(context) == {WAITS_FOR: "the shell was not finished. The image has no /boot/initrd"}
    assert api.changes == ([("DELETE", path, None)] if is_available else [])


OUTCOMES = {
    "fail": "the shell was given up. Start the job again to get an image",
    "expired": "the shell's lease ended before it was finished. Start the job again with a longer lease",
    "disk-full": "the disk of the job is almost full, and the job takes more space than it asked for. "
    "Set build_env_size, or make room on the disk (IMS_DISK_RESERVE_MIB)",
}


@pytest.mark.parametrize(("outcome", "reason"), OUTCOMES.items(), ids=OUTCOMES)
def test_no_image_is_made(outcome: str, reason: str) -> None:
    """The job ends; waiting once more cannot help."""
    context = make_context()
    with pytest.raises(AirflowFailException):
        sensor().resume(context, {"outcome": outcome})
    assert xcoms(context) == {"failure": reason}
