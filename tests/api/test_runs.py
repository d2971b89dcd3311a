"""Runs seen as jobs, with an Airflow that answers from memory: status, reason, and the requests that a night needs."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from ims.api.errors import AirflowError
from ims.api.runs.airflow import is_internal
from ims.api.runs.every_run import Result
from ims.api.runs.lists import add_steps
from ims.api.runs.night_views import DescribeNight
from ims.api.runs.reasons import add_reason, cancel
from ims.api.runs.runs import Run, new_run, ordered, run_of
from ims.errors import ImsError
from ims.jobs import nightly_run_id
from ims.workflows import CREATE_IMAGE, CUSTOMIZE_IMAGE, NIGHTLY_IMAGES

BEGIN = datetime(2026, 1, 1, 21, 0, tzinfo=UTC)
NIGHT = str(uuid4())


class Airflow:
    """Answers requests from a table, and remembers them."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.requests: list[str] = []
        self.sent: list[Any] = []
        self.shows_results = False

    async def may_read_results(self, _dag_id: str) -> bool:
        """Whether the caller may read XComs."""
        return self.shows_results

    async def call(self, method: str, path: str, **arguments: Any) -> Any:
        """The answer for a path."""
        self.requests.append(f"{method} {path}")
        self.sent.append(arguments.get("json"))
        if path not in self.answers:
            raise AirflowError(403, path)
        return self.answers[path]

    async def find(self, path: str, **_arguments: Any) -> Any | None:
        """The answer for a path, or None."""
        self.requests.append(f"GET {path}")
        return self.answers.get(path.rpartition("/dagRuns/")[2])

    async def search(self, path: str, _items: str, **body: Any) -> Any:
        """The items that match the body."""
        self.requests.append(f"POST {path} {body['dag_ids']}")
        found = [item for item in self.answers.get(path, ()) if item["dag_id"] in body["dag_ids"]]
        wanted = body.get("dag_run_ids")
        return found if wanted is None else [item for item in found if item["dag_run_id"] in wanted]


def described_run(run_id: str, state: str, dag_id: str = CREATE_IMAGE.dag_id, **fields: Any) -> dict[str, Any]:
    """A run as Airflow describes it."""
    times = {"run_after": BEGIN, "start_date": BEGIN, "end_date": BEGIN + timedelta(minutes=1)}
    return {"dag_id": dag_id, "dag_run_id": run_id, "state": state, "conf": {}, "note": None, **times, **fields}


def described_task(task_id: str, state: str | None, run_id: str = "x", **fields: Any) -> dict[str, Any]:
    """A task instance as Airflow describes it."""
    ran = state in ("success", "failed", "running")
    common = {"dag_id": CREATE_IMAGE.dag_id, "dag_run_id": run_id, "map_index": -1, "try_number": int(ran)}
    ended = BEGIN + timedelta(minutes=25) if state in ("success", "failed") else None
    times = {"start_date": BEGIN, "end_date": ended}
    return {**common, "task_id": task_id, "state": state, **times, **fields}


def run_with(state: str, **states: str) -> Run:
    """A run of `create_image` with the states of some tasks; the others were not begun."""
    run = run_of(described_run("x", state))
    run.steps = ordered(
        CREATE_IMAGE.dag_id, [described_task(task.id, states.get(task.id)) for task in CREATE_IMAGE.tasks]
    )
    return run


def reason(run: Run, airflow: Airflow) -> str | None:
    """The reason of a run."""
    asyncio.run(add_reason(airflow, run))  # type: ignore[arg-type]
    return run.reason


FAILED = {"open_workspace": "success", "fetch_recipe": "success", "build_image": "failed"}
CANCELLED = {**FAILED, "package_artifacts": "skipped", "save_image_record": "skipped", "close_workspace": "failed"}


def xcom(value: str) -> dict[str, Any]:
    """The answer for the reason that `build_image` left."""
    return {"x/taskInstances/build_image/xcomEntries/failure": {"value": value}}


@pytest.mark.parametrize("shows_results", [True, False])
def test_reasons_of_a_list(monkeypatch: pytest.MonkeyPatch, shows_results: bool) -> None:
    """One query finds the reasons of all failed runs, if the caller may read results. Otherwise Airflow decides."""
    runs = [run_of(described_run(name, "failed")) for name in ("x", "y")]
    tasks = [described_task(task.id, FAILED.get(task.id), run.run_id) for run in runs for task in CREATE_IMAGE.tasks]
    airflow = Airflow(**{"dags/~/dagRuns/~/taskInstances/list": tasks}, **xcom("disk"))
    airflow.shows_results = shows_results
    found = {Result(CREATE_IMAGE.dag_id, run.run_id, "build_image"): "disk" for run in runs}
    monkeypatch.setattr("ims.api.runs.lists.recorded_failures", lambda asked: found if asked == runs else {})
    asyncio.run(add_steps(airflow, runs))  # type: ignore[arg-type]
    asked = [request for request in airflow.requests if "xcomEntries" in request]
    assert runs[0].reason == "build_image: disk"
    assert (runs[1].reason == "build_image: disk") == shows_results
    assert len(asked) == (0 if shows_results else 2)


def test_new_run() -> None:
    """A run that Airflow has just created has all steps, none of which has begun."""
    run = new_run(described_run("x", "queued"))
    assert [step.name for step in run.steps] == [task.id for task in CREATE_IMAGE.tasks]
    assert (run.status, run.failed, run.is_cancelled) == ("creating", None, False)


def test_unknown_task() -> None:
    """A task that the table of workflows does not list is an error."""
    with pytest.raises(ImsError, match="no task dance"):
        ordered(CREATE_IMAGE.dag_id, [described_task("dance", "running")])


def test_failure() -> None:
    """The reason is what the failed task left; without one, its process was killed."""
    assert reason(run_with("failed", **FAILED), Airflow(**xcom("no space"))) == "build_image: no space"
    assert reason(run_with("failed", **FAILED), Airflow()) == "build_image ended without a reason: a process was killed"
    assert reason(run_with("success"), Airflow()) is None


def test_waiting_for_repositories() -> None:
    """A running job says which repositories it waits for, and nothing before and after that."""
    said = {"x/taskInstances/wait_for_repositories/xcomEntries/waits_for": {"value": "waiting for http://r (404)"}}
    waiting = run_with("running", fetch_recipe="success", wait_for_repositories="deferred")
    assert reason(waiting, Airflow(**said)) == "wait_for_repositories: waiting for http://r (404)"
    assert waiting.status == "waiting_for_repos"
    for state in ("running", "success", "scheduled"):
        assert reason(run_with("running", wait_for_repositories=state), Airflow(**said)) is None
    assert reason(waiting, Airflow()) is None


def test_shell_that_stays_open() -> None:
    """A job whose shell was not finished says why."""
    said = {"x/taskInstances/wait_for_completion/xcomEntries/waits_for": {"value": "the shell was not finished"}}
    waiting = run_with("running", wait_for_completion="deferred")
    assert reason(waiting, Airflow(**said)) == "wait_for_completion: the shell was not finished"
    assert reason(waiting, Airflow()) is None


def test_waiting_for_space() -> None:
    """A running job says which disk is almost full."""
    said = {"x/taskInstances/open_workspace/xcomEntries/waits_for": {"value": "the disk of /w has 1 MiB free"}}
    waiting = run_with("running", open_workspace="deferred")
    assert reason(waiting, Airflow(**said)) == "open_workspace: the disk of /w has 1 MiB free"
    assert waiting.status == "creating"


def test_cancelled_by_our_api() -> None:
    """Cancelling leaves a line in the note of the run, which becomes the reason. What was in the note stays."""
    run = run_with("running", **CANCELLED)
    run.note = "for the demo"
    airflow = Airflow(**{"dags/create_image/dagRuns/x": None})
    asyncio.run(cancel(airflow, run, "by ada"))  # type: ignore[arg-type]
    (sent,) = airflow.sent
    assert sent["state"] == "failed"
    first, line = sent["note"].splitlines()
    assert first == "for the demo"
    run.note = sent["note"]
    assert reason(run, Airflow(**xcom("killed by SIGKILL"))) == line
    assert line.startswith("cancelled by ada at 2")


def test_cancelled_in_airflow() -> None:
    """Airflow's audit log tells who marked the run failed; other changes of the run do not count."""
    events = [
        {"owner": "eve", "when": "2026-01-01T22:00:00Z", "extra": json.dumps({"note": "hello"})},
        {"owner": "ada", "when": "2026-01-01T21:25:00Z", "extra": json.dumps({"state": "failed"})},
    ]
    airflow = Airflow(eventLogs={"event_logs": events})
    assert reason(run_with("failed", **CANCELLED), airflow) == "cancelled by ada at 2026-01-01 21:25 UTC"
    # A task that was running was ended with the run.
    assert reason(run_with("failed", **FAILED), airflow) == "cancelled by ada at 2026-01-01 21:25 UTC"


def test_cancelled_while_a_shell_is_open() -> None:
    """The teardown of the shell runs after the cancellation and does not hide it."""
    states = {"wait_for_completion": "failed", "stop_shell": "success", "list_changes": "skipped"}
    run = run_of({**described_run("x", "failed"), "dag_id": CUSTOMIZE_IMAGE.dag_id})
    run.steps = ordered(
        CUSTOMIZE_IMAGE.dag_id, [described_task(task.id, states.get(task.id)) for task in CUSTOMIZE_IMAGE.tasks]
    )
    run.note = "cancelled by ada at 2026-01-01 21:25 UTC"
    assert reason(run, Airflow()) == run.note


def test_cancelled_by_somebody() -> None:
    """A caller who may not read the audit log learns when the run was cancelled."""
    assert reason(run_with("failed", **CANCELLED), Airflow()) == "cancelled at 2026-01-01 21:25 UTC"


def test_run_took_too_long() -> None:
    """Airflow then skips all tasks that have not ended, the teardowns too."""
    states = {**FAILED, "build_image": "skipped", "package_artifacts": "skipped", "close_workspace": "skipped"}
    run = run_with("failed", **states)
    assert run.status == "error"
    limit = CREATE_IMAGE.seconds
    run.ended = BEGIN + timedelta(seconds=limit)
    expected = f"it took longer than its limit of {limit} s. IMS_RUN_SECONDS sets the limits of runs"
    assert reason(run, Airflow()) == expected


def test_cancelled_after_a_failure() -> None:
    """If a step failed before the debug shell was cancelled, its reason is the reason of the job."""
    shell = {"start_debug_shell": "success", "wait_for_completion": "failed"}
    run = run_with("failed", **CANCELLED, **shell)
    assert run.failed is not None
    assert reason(run, Airflow(**xcom("no space"))) == "build_image: no space"


def test_internal_calls() -> None:
    """Only a key of the scope, which no client can send, marks a call of our own routes."""
    assert is_internal({"type": "http", "ims.internal": True})
    assert not is_internal({"type": "http", "headers": [(b"ims.internal", b"1")]})


class Images:
    """Records without images or recipes."""

    def images_of_jobs(self, _jobs: Any) -> dict[str, Any]:
        """None."""
        return {}

    def list(self, *_arguments: Any) -> list[Any]:
        """None."""
        return []


def night(count: int) -> tuple[Airflow, list[str]]:
    """A night that builds recipes, all successfully, and the ids of the recipes."""
    ids = [str(uuid4()) for _ in range(count)]
    recipes = [{"recipe_id": identity, "name": identity} for identity in ids]
    builds = [{**recipe, "failures": 0} for recipe in recipes]
    tasks = [
        described_task("build_images", "success", NIGHT, dag_id=NIGHTLY_IMAGES.dag_id, map_index=number)
        for number in range(count)
    ]
    answers = {
        f"{NIGHT}/taskInstances/choose_recipes/xcomEntries/recipes": {"value": recipes},
        f"{NIGHT}/taskInstances/choose_builds/xcomEntries/return_value": {"value": builds},
        "dags/~/dagRuns/list": [described_run(nightly_run_id(NIGHT, identity), "success") for identity in ids],
        "dags/~/dagRuns/~/taskInstances/list": tasks,
    }
    return Airflow(**answers), ids


def describe(airflow: Airflow) -> Any:
    """The running night, as the API describes it."""
    run = run_of(described_run(NIGHT, "running", NIGHTLY_IMAGES.dag_id))
    return asyncio.run(DescribeNight(airflow, Images()).one(run))  # type: ignore[arg-type]


def test_requests_of_a_night() -> None:
    """A night of many builds needs as few requests as one of a single build."""
    few, _ = night(1)
    many, ids = night(50)
    assert describe(few).built == 1
    assert [recipe.recipe_id for recipe in describe(many).recipes] == ids
    assert len(many.requests) == len(few.requests) <= 8


def test_shared_job() -> None:
    """A build that waits for a job of somebody else shows that job."""
    airflow, (identity,) = night(1)
    shared = str(uuid4())
    airflow.answers["dags/~/dagRuns/list"] = []
    airflow.answers |= {
        f"{NIGHT}/taskInstances/build_images/xcomEntries/trigger_run_id": {"value": shared},
        shared: described_run(shared, "success"),
    }
    (recipe,) = describe(airflow).recipes
    assert (recipe.recipe_id, recipe.job_id, recipe.outcome, recipe.seconds) == (identity, shared, "built", 60)


@pytest.mark.parametrize(("state", "outcome"), [("running", "waiting"), ("failed", "failed")])
def test_build_without_a_job(state: str, outcome: str) -> None:
    """A build waits until its job exists; if the task ends before, the build failed."""
    airflow, _ = night(1)
    airflow.answers["dags/~/dagRuns/list"] = []
    airflow.answers["dags/~/dagRuns/~/taskInstances/list"][0]["state"] = state
    (recipe,) = describe(airflow).recipes
    assert (recipe.outcome, recipe.job_id) == (outcome, None)
    assert recipe.reason == (None if state == "running" else "no job was started: the night was cancelled")


ENVIRONMENT = {"x/taskInstances/build_image/xcomEntries/environment_failed": {"value": True}}
BLAMED: dict[str, tuple[dict[str, str], dict[str, Any], bool]] = {
    "the recipe is wrong": (FAILED, xcom("config.sh failed"), True),
    "a service does not answer": (FAILED, {**xcom("S3 does not answer"), **ENVIRONMENT}, False),
    "a process was killed": (FAILED, {}, False),
    "the job was cancelled": (CANCELLED, xcom("killed by SIGKILL"), False),
}


@pytest.mark.parametrize(("states", "answers", "blamed"), BLAMED.values(), ids=BLAMED)
def test_whom_a_night_blames(states: dict[str, str], answers: dict[str, Any], blamed: bool) -> None:
    """Only failures of the recipe itself count towards pausing it."""
    airflow, (identity,) = night(1)
    job = nightly_run_id(NIGHT, identity)
    airflow.answers["dags/~/dagRuns/list"] = [described_run(job, "failed")]
    airflow.answers["dags/~/dagRuns/~/taskInstances/list"][0]["state"] = "failed"
    airflow.answers["dags/~/dagRuns/~/taskInstances/list"] += [
        described_task(task.id, states.get(task.id), job) for task in CREATE_IMAGE.tasks
    ]
    airflow.answers |= {path.replace("x/", f"{job}/", 1): answer for path, answer in answers.items()}
    (recipe,) = describe(airflow).recipes
    assert (recipe.outcome, recipe.failures) == ("failed", int(blamed))
