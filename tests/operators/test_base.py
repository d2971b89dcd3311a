"""What all tasks share: the condition that skips them, and the errors that end them."""

from __future__ import annotations

import errno
import logging
from typing import Any, cast

import pytest
from airflow.sdk import DAG, Context, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from ims.errors import ConfigurationError, ImsError, InputError, MissingError, PermanentError, UnavailableError
from ims.operators.base import ImsOperator, task_defaults
from ims.operators.conditions import Condition, any_of, none_of
from ims.operators.errors import log_reason
from tests.operators.fakes import make_context, xcoms


class Probe(ImsOperator):
    """Returns `done`, or raises an error."""

    def __init__(self, *, error: Exception | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.error = error

    def perform(self, context: Context) -> str:
        """Do it."""
        if self.error is not None:
            raise self.error
        return "done"


RUNS = {
    "one value is true": any_of(False, "echo hello"),
    "all values are false": none_of(False, None, ""),
    "there is no condition": None,
}
SKIPS = {
    "no value is true": any_of(False, None, ""),
    "there is no value": any_of(),
    "one value is not false": none_of(None, "echo hello"),
}


@pytest.mark.parametrize("condition", RUNS.values(), ids=RUNS)
def test_task_runs(condition: Condition | None) -> None:
    """The condition holds."""
    assert Probe(task_id="probe", run_if=condition).execute(make_context()) == "done"


@pytest.mark.parametrize("condition", SKIPS.values(), ids=SKIPS)
def test_task_skips_itself(condition: Condition) -> None:
    """The condition does not hold, so an error of the task cannot occur, and no reason is kept."""
    context = make_context()
    with pytest.raises(AirflowSkipException):
        Probe(task_id="probe", error=InputError("no"), run_if=condition).execute(context)
    assert not xcoms(context)


@pytest.mark.parametrize(("script", "runs"), [(None, True), ("echo hello", False)])
def test_condition_on_a_parameter(script: str | None, runs: bool) -> None:
    """Airflow replaces a parameter in a condition with its value when the task starts."""
    with DAG("probe", params={"script": Param(None, type=["null", "string"])}) as dag:
        probe = Probe(task_id="probe", run_if=none_of(dag.param("script")))
    probe.render_template_fields(make_context(script=script))
    assert probe.run_if is not None
    assert probe.run_if.holds is runs


PERMANENT = [PermanentError, InputError, MissingError, ConfigurationError]


@pytest.mark.parametrize("kind", PERMANENT)
def test_permanent_error(kind: type[ImsError]) -> None:
    """Airflow does not try again; the reason is kept with its hint."""
    context = make_context()
    with pytest.raises(AirflowFailException, match=r"it is red\. Paint it"):
        Probe(task_id="probe", error=kind("it is red", "Paint it")).execute(context)
    assert xcoms(context) == {"failure": "it is red. Paint it"}


@pytest.mark.parametrize("kind", [ImsError, UnavailableError])
def test_error_that_may_pass(kind: type[ImsError]) -> None:
    """Airflow tries again; the reason is kept too."""
    context = make_context()
    with pytest.raises(AirflowException, match="S3 does not answer") as caught:
        Probe(task_id="probe", error=kind("S3 does not answer")).execute(context)
    assert not isinstance(caught.value, AirflowFailException)
    assert xcoms(context) == {"failure": "S3 does not answer"}


def test_full_disk() -> None:
    """Another try cannot help."""
    context = make_context()
    with pytest.raises(AirflowFailException, match="Make room"):
        Probe(task_id="probe", error=OSError(errno.ENOSPC, "No space left on device")).execute(context)
    assert xcoms(context)["failure"].startswith("No space left on device")


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "Permission denied"), KeyError("x")])
def test_defect(error: Exception) -> None:
    """Other errors pass unchanged: Airflow logs their traceback."""
    context = make_context()
    with pytest.raises(type(error)):
        Probe(task_id="probe", error=error).execute(context)
    assert not xcoms(context)


def failed(error: BaseException | None) -> Context:
    """The context of a failed task."""
    return cast("Context", {**make_context(), "exception": error})


def test_reason_is_the_last_line(caplog: pytest.LogCaptureFixture) -> None:
    """Airflow calls these after it has logged the traceback."""
    defaults = task_defaults()
    assert defaults["on_failure_callback"] is defaults["on_retry_callback"] is log_reason
    with caplog.at_level(logging.INFO, "airflow.task"):
        log_reason(failed(AirflowFailException("it is red. Paint it")))
    assert [(record.levelname, record.message) for record in caplog.records][-1] == ("ERROR", "it is red. Paint it")


def test_reason_of_a_defect(caplog: pytest.LogCaptureFixture) -> None:
    """It names the type of the error: `x` alone says nothing."""
    log_reason(failed(KeyError("x")))
    assert caplog.messages[-1] == "KeyError: 'x'"


def test_no_reason(caplog: pytest.LogCaptureFixture) -> None:
    """Airflow may not know the error."""
    log_reason(failed(None))
    assert not caplog.messages
