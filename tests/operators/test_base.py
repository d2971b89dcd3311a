"""What all tasks share: the condition that skips them, and the errors that end them."""

from __future__ import annotations

import errno
import logging
import time
from datetime import timedelta
from functools import partial
from typing import Any, cast

import pytest
from airflow.sdk import DAG, Context, Param, TriggerRule
from airflow.sdk.bases.operator import TriggerFailureReason
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    DownstreamTasksSkipped,
)
from airflow.sdk.execution_time.timeout import timeout

from ims.errors import ConfigurationError, ImsError, InputError, MissingError, PermanentError, UnavailableError
from ims.operators.base import ImsOperator, task_defaults
from ims.operators.conditions import Condition, any_of, none_of
from ims.operators.errors import log_reason
from tests.operators.fakes import make_context, xcoms


class Probe(ImsOperator):
    """Returns `result`, or raises an error."""

    def __init__(self, *, error: Exception | None = None, result: Any = "done", **arguments: Any) -> None:
        super().__init__(**arguments)
        self.error = error
        self.result = result

    def perform(self, context: Context) -> Any:
        """Do it."""
        if self.error is not None:
            raise self.error
        return self.result


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


@pytest.mark.parametrize(("script", "skipped"), [(None, "script"), ("echo hello", "shell")])
def test_next_task_is_not_needed(script: str | None, skipped: str) -> None:
    """A task whose condition does not hold needs no slot of its pool. The result of the task before it is kept."""
    with DAG("probe", params={"script": Param(None, type=["null", "string"])}) as dag:
        first = Probe(task_id="first")
        first >> Probe(task_id="script", run_if=any_of(dag.param("script")))
        first >> Probe(task_id="shell", run_if=none_of(dag.param("script")))
        first >> Probe(task_id="always")
    context = make_context(script=script)
    with pytest.raises(DownstreamTasksSkipped) as caught:
        first.execute(context)
    assert caught.value.tasks == [skipped]
    assert xcoms(context) == {"return_value": "done"}


def test_task_that_also_follows_another_task_is_not_skipped() -> None:
    """If the other task fails, so does the run. A task before both may skip it."""
    with DAG("probe"):
        first, left, right = (Probe(task_id=name) for name in ("first", "left", "right"))
        last = Probe(task_id="last", run_if=any_of(None))
        first >> [left, right] >> last
    assert left.execute(make_context()) == "done"
    first >> last
    assert left.execute(make_context()) == "done"
    with DAG("chain"):
        before, after = Probe(task_id="before"), Probe(task_id="after")
        before >> after >> Probe(task_id="skipped", run_if=any_of(None)) << before
    with pytest.raises(DownstreamTasksSkipped):
        after.execute(make_context())


def test_outputs_are_kept() -> None:
    """Tasks read them one by one."""
    with DAG("probe"):
        first = Probe(task_id="first", result={"arch": "x86_64"}, multiple_outputs=True)
        first >> Probe(task_id="script", run_if=any_of(None))
    context = make_context()
    with pytest.raises(DownstreamTasksSkipped):
        first.execute(context)
    assert xcoms(context) == {"arch": "x86_64", "return_value": {"arch": "x86_64"}}


def test_next_task_waits_for_a_failure() -> None:
    """A task that other tasks can still make necessary is not skipped."""
    with DAG("probe"):
        first = Probe(task_id="first")
        first >> Probe(task_id="debug", run_if=any_of(None), trigger_rule=TriggerRule.ONE_FAILED)
    assert first.execute(make_context()) == "done"


def test_failed_task_skips_nothing() -> None:
    """Another try may follow."""
    with DAG("probe"):
        first = Probe(task_id="first", error=UnavailableError("no"))
        first >> Probe(task_id="script", run_if=any_of(None))
    with pytest.raises(AirflowException) as caught:
        first.execute(make_context())
    assert not isinstance(caught.value, DownstreamTasksSkipped)


PERMANENT = [PermanentError, InputError, MissingError, ConfigurationError]


@pytest.mark.parametrize("kind", PERMANENT)
def test_permanent_error(kind: type[ImsError]) -> None:
    """Airflow does not try again; the reason is kept with its hint."""
    context = make_context()
    with pytest.raises(AirflowFailException, match=r"it is red\. Paint it"):
        Probe(task_id="probe", error=kind("it is red", "Paint it")).execute(context)
    assert xcoms(context)["failure"] == "it is red. Paint it"
    assert ("environment_failed" in xcoms(context)) is (kind is ConfigurationError)


@pytest.mark.parametrize("kind", [ImsError, UnavailableError])
def test_error_that_may_pass(kind: type[ImsError]) -> None:
    """Airflow tries again; the reason is kept too."""
    context = make_context()
    with pytest.raises(AirflowException, match="S3 does not answer") as caught:
        Probe(task_id="probe", error=kind("S3 does not answer")).execute(context)
    assert not isinstance(caught.value, AirflowFailException)
    assert xcoms(context)["failure"] == "S3 does not answer"
    assert ("environment_failed" in xcoms(context)) is (kind is UnavailableError)


@pytest.mark.parametrize(("task_id", "blames_recipe"), [("build_image", True), ("open_workspace", False)])
def test_error_of_no_known_kind(task_id: str, blames_recipe: bool) -> None:
    """It counts against a recipe only if the task runs what the recipe says."""
    context = make_context(task_id=task_id)
    with pytest.raises(AirflowException):
        Probe(task_id="probe", error=ImsError("the volume is not removed")).execute(context)
    assert ("environment_failed" in xcoms(context)) is not blames_recipe


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


class Endless(ImsOperator):
    """Never ends by itself; keeps whether it was killed."""

    is_killed = False

    def perform(self, context: Context) -> None:
        """Sleep."""
        time.sleep(60)

    def resume(self, context: Context) -> None:
        """Sleep after a wait in the triggerer."""
        time.sleep(60)

    def on_kill(self) -> None:
        """Keep it."""
        type(self).is_killed = True


TIMED_OUT = {"build_image": True, "upload_artifacts": False}


@pytest.mark.parametrize(("task_id", "permanent"), TIMED_OUT.items(), ids=TIMED_OUT)
@pytest.mark.parametrize("method", ["execute", "resume"])
def test_task_takes_too_long(task_id: str, permanent: bool, method: str) -> None:
    """Its processes end. Another try helps only if the recipe is not to blame; the night learns that, too."""
    context = make_context("create_image")
    task = Endless(task_id=task_id, execution_timeout=timedelta(seconds=1))
    run = task.execute if method == "execute" else partial(task.resume_execution, "resume", {})
    with pytest.raises(AirflowException) as caught, timeout(0.1):
        run(context=context)
    assert isinstance(caught.value, AirflowFailException) is permanent
    assert task.is_killed
    assert xcoms(context)["failure"] == (
        "it took longer than its limit of 1 s and was ended. IMS_STEP_SECONDS sets the limits of tasks"
    )
    assert xcoms(context).get("environment_failed", False) is not permanent


def test_build_waits_for_a_dead_repository() -> None:
    """A build that takes too long is not the fault of its recipe if a repository does not answer."""
    context: Any = make_context("create_image")
    url = "http://127.0.0.1:9"
    context["ti"].pushed["fetch_recipe", "repositories"] = [{"url": url, "metadata_url": f"{url}/repodata/repomd.xml"}]
    task = Endless(task_id="build_image", execution_timeout=timedelta(seconds=1))
    with pytest.raises(AirflowException, match=rf"not available: {url} \("), timeout(0.1):
        task.execute(context=context)
    assert xcoms(context)["environment_failed"] is True


def test_wait_takes_too_long() -> None:
    """Airflow ends waits that the triggerer has forgotten; the reason is that of any other task."""
    context = make_context("create_image")
    task = Endless(task_id="wait_for_repositories", execution_timeout=timedelta(seconds=1))
    with pytest.raises(AirflowException, match="longer than its limit of 1 s"):
        task.resume_execution("__fail__", {"error": TriggerFailureReason.TRIGGER_TIMEOUT}, context)
