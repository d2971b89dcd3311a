"""A step as a task on this machine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from ims.errors import StepFailedError
from ims.operators.local import LocalStepOperator
from ims.runtime.local.process import StepProcess
from ims.steps.step import Step
from tests.operators.fakes import make_context, xcoms

INPUTS = {"workspace": "/work", "package_manager": "apt"}


def step(**arguments: Any) -> LocalStepOperator:
    """The task of a step."""
    return LocalStepOperator(task_id="build_ca_package", inputs=INPUTS, **arguments)


def test_step_runs_with_its_inputs(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Each line arrives in the log of the task with its level; the result is that of the task."""
    calls: list[tuple[Any, ...]] = []

    def run(
        _self: StepProcess, what: Step[Any], data: Any, label: str, on_line: Callable[[str], None], credentials: Any
    ) -> str:
        assert credentials == {}
        calls.append((what.name, data, label))
        for line in ("unpacking 12 %", "WARNING: no /etc/machine-id", "ERROR: 100% broken", "DEBUG: found rpm"):
            on_line(line)
        return "/srv/ca.rpm"

    monkeypatch.setattr(StepProcess, "run", run)
    monkeypatch.setattr(LocalStepOperator, "log", logging.getLogger("probe"))
    with caplog.at_level(logging.DEBUG):
        assert step().execute(make_context()) == "/srv/ca.rpm"
    assert calls == [("build_ca_package", INPUTS, "build_ca_package--1")]
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "unpacking 12 %"),
        ("WARNING", "no /etc/machine-id"),
        ("ERROR", "100% broken"),
        ("DEBUG", "found rpm"),
    ]


ENDS = [
    *((65, True, False), (66, True, False), (78, True, True)),
    *((69, False, True), (70, False, False), (-9, False, True)),
]


@pytest.mark.parametrize(("code", "permanent", "environmental"), ENDS)
def test_step_fails(monkeypatch: pytest.MonkeyPatch, code: int, permanent: bool, environmental: bool) -> None:
    """The exit code says whether another try may help, and whether the recipe is to blame; the reason is kept."""

    def run(*_arguments: Any) -> Any:
        raise StepFailedError("no", "Do it by hand", code)

    monkeypatch.setattr(StepProcess, "run", run)
    context = make_context()
    with pytest.raises(AirflowException, match=r"no\. Do it by hand") as caught:
        step().execute(context)
    assert isinstance(caught.value, AirflowFailException) is permanent
    assert xcoms(context)["failure"] == "no. Do it by hand"
    assert ("environment_failed" in xcoms(context)) is environmental


def test_task_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step ends with it."""
    killed: list[bool] = []
    monkeypatch.setattr(StepProcess, "kill", lambda _self: killed.append(True))
    step().on_kill()
    assert killed == [True]
