"""The tasks of a night: choosing the builds, building, and summarizing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, ErrorType, TaskDeferred
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse, OKResponse

from ims.errors import InputError, MissingError, PermanentError
from ims.jobs import nightly_run_id
from ims.operators import nights
from ims.operators.nights import BuildRecipeOperator, ChooseBuildsOperator, SummarizeOperator
from ims.params import boot_files
from ims.triggers.jobs import JobEndTrigger
from tests.operators.fakes import RUN_ID, FakeApi, make_context, xcoms


def recipe(identity: str, name: str = "a", failures: int = 0, *, nightly: bool = True) -> dict[str, Any]:
    """The record of a recipe."""
    link = {"type": "s3", "path": f"s3://ims/{identity}"}
    fields = {"arch": "x86_64", "link": link, "nightly": nightly, "nightly_failures": failures}
    return {"id": identity, "name": name, **fields}


def use(monkeypatch: pytest.MonkeyPatch, *recipes: dict[str, Any], **answers: Any) -> FakeApi:
    """An API that has these recipes and gives these answers."""
    records = {f"recipes/{record['id']}": record for record in recipes}
    api = FakeApi(recipes=list(recipes), **{"images": [], **records, **answers})
    monkeypatch.setattr(nights, "api_client", lambda: api)
    return api


# Choosing builds


def test_choose_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe whose image is current is not built, and its image is marked as checked."""
    api = use(monkeypatch, recipe("1"), recipe("2", failures=1), recipe("3"))
    plans = [
        {"recipe_id": "1", "verdict": "skip", "image_id": "current"},
        {"recipe_id": "2", "verdict": "build", "image_id": "old"},
        {"recipe_id": "3", "verdict": "repack", "image_id": "old"},
    ]
    assert choose(plans, "1", "2", "3") == [("2", 1), ("3", 0)]
    assert [(method, path) for method, path, _ in api.changes] == [("PATCH", "images/current")]


def test_image_was_deleted_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its recipe is built; the night goes on."""
    api = use(monkeypatch, recipe("1"), recipe("2"))
    api.failures["images/gone"] = MissingError("there is no image gone")
    plans = [
        {"recipe_id": "1", "verdict": "skip", "image_id": "gone"},
        {"recipe_id": "2", "verdict": "skip", "image_id": "current"},
    ]
    assert choose(plans, "1", "2") == [("1", 0)]
    assert [path for _, path, _ in api.changes] == ["images/current"]


def test_image_cannot_be_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is current all the same, and the others are marked."""
    api = use(monkeypatch, recipe("1"), recipe("2"))
    api.failures["images/odd"] = PermanentError("409 Conflict")
    plans = [
        {"recipe_id": str(number), "verdict": "skip", "image_id": image} for number, image in ((1, "odd"), (2, "b"))
    ]
    assert choose(plans, "1", "2") == []
    assert [path for _, path, _ in api.changes] == ["images/b"]


def test_recipe_was_deleted_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its job fails with that reason, which the summary shows. The others are built."""
    use(monkeypatch, recipe("2", failures=1))
    assert choose([], "gone", "2") == [("gone", 0), ("2", 1)]


UNPLANNED: dict[str, Any] = {
    "the plan failed": None,
    "the plan lacks the recipe": [],
    "there is no image to keep": [{"recipe_id": "1", "verdict": "skip", "image_id": None}],
}


@pytest.mark.parametrize("plans", UNPLANNED.values(), ids=UNPLANNED)
def test_recipe_without_a_plan_is_built(monkeypatch: pytest.MonkeyPatch, plans: Any) -> None:
    """An unnecessary build only costs time."""
    api = use(monkeypatch, recipe("1"))
    assert choose(plans, "1") == [("1", 0)]
    assert not api.changes


def choose(plans: Any, *ids: str) -> list[tuple[str, int]]:
    """Run the task for recipes; returns ids and failures of those to build."""
    chosen = [{"recipe_id": identity, "name": f"name-{identity}"} for identity in ids]
    builds = ChooseBuildsOperator(task_id="choose_builds", recipes=chosen, plans=plans).execute(make_context())
    return [(build["recipe_id"], build["failures"]) for build in builds]


def test_recipes_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the result of `choose_recipes` both tasks fail for good, and so does the night."""
    use(monkeypatch)
    for task in (
        ChooseBuildsOperator(task_id="choose_builds", recipes=None, plans=None),
        SummarizeOperator(task_id="summarize", builds=None, images=None),
    ):
        with pytest.raises(AirflowFailException):
            task.execute(make_context())


# Building

OWN = nightly_run_id(RUN_ID, "r1")
BOOT = boot_files.names({}, {"initrd_file_name": "initramfs.img"})
BUILD = {"recipe_id": "r1", "name": "site", "failures": 0, "boot_files": BOOT}


def job(
    run_id: str,
    artifact_id: str = "r1",
    *,
    enable_debug: bool = False,
    profiles: Sequence[str] = (),
    kernel: str = "vmlinuz",
    initrd: str = "initramfs.img",
) -> dict[str, Any]:
    """A running job."""
    fields = {"arch": "x86_64", "enable_debug": enable_debug, "profiles": list(profiles)}
    names = {**BOOT, "kernel_file_name": kernel, "initrd_file_name": initrd}
    return {"dag_run_id": run_id, "artifact_id": artifact_id, **fields, **names}


class Supervisor:
    """Starts runs for tasks, and keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answer: Any = OKResponse(ok=True)

    def send(self, message: Any) -> Any:
        """Keep a message; returns the answer."""
        self.asked.append(message)
        return self.answer


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """The supervisor of the task."""
    found = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", found, raising=False)
    return found


def waits_for(task: BuildRecipeOperator, context: Context) -> str:
    """Run the task; returns the run for which the triggerer then waits, which is in the XCom for the API, too."""
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    trigger = deferred.value.trigger
    assert isinstance(trigger, JobEndTrigger)
    (run_id,) = trigger.run_ids
    assert (trigger.dag_id, deferred.value.kwargs) == ("create_image", {"run_id": run_id})
    assert xcoms(context) == {"trigger_run_id": run_id}
    return run_id


def build(monkeypatch: pytest.MonkeyPatch, context: Context, *jobs: dict[str, Any]) -> str:
    """Run the task while these jobs run; returns the run for which it waits."""
    use(monkeypatch, jobs=list(jobs))
    return waits_for(BuildRecipeOperator(task_id="build_images", build=BUILD), context)


OTHERS = {
    "no job": [],
    "a job for another recipe": [job("other", "r2")],
    "a job that would wait for a user": [job("other", enable_debug=True)],
    "a job of other profiles": [job("other", profiles=["Lab"])],
    "a job with another initrd": [job("other", initrd="initrd")],
    "a job with another kernel": [job("other", kernel="bzImage")],
}


@pytest.mark.parametrize("jobs", OTHERS.values(), ids=OTHERS)
def test_job_is_started(monkeypatch: pytest.MonkeyPatch, supervisor: Supervisor, jobs: list[dict[str, Any]]) -> None:
    """Its run id follows from the night and the recipe."""
    assert build(monkeypatch, make_context("nightly_images", existing_runs=["other"]), *jobs) == OWN
    (started,) = supervisor.asked
    assert (started.dag_id, started.run_id) == ("create_image", OWN)
    assert started.conf == {"artifact_id": "r1", "image_root_archive_name": "site", "force": False}


def test_forced_job_is_started(monkeypatch: pytest.MonkeyPatch, supervisor: Supervisor) -> None:
    """Although a job builds the recipe, which may continue an earlier build."""
    use(monkeypatch, recipe("r1"), jobs=[job("other")])
    chosen = [{"recipe_id": "r1", "name": "site"}]
    choose = ChooseBuildsOperator(task_id="choose_builds", recipes=chosen, plans=[], force=True)
    (forced,) = choose.execute(make_context())
    task = BuildRecipeOperator(task_id="build_images", build=forced)
    assert waits_for(task, make_context("nightly_images", existing_runs=["other"])) == OWN
    assert [started.conf["force"] for started in supervisor.asked] == [True]


def test_publication_starts_a_job(monkeypatch: pytest.MonkeyPatch, supervisor: Supervisor) -> None:
    """The job of a user may have read the repositories before the publication."""
    context: Any = make_context("nightly_images", existing_runs=["other"])
    event = SimpleNamespace(extra={"payload": {"repositories": ["http://nexus/b"]}})
    context["triggering_asset_events"] = {"repositories": [event]}
    assert build(monkeypatch, context, job("other")) == OWN
    assert len(supervisor.asked) == 1


def test_job_was_started_meanwhile(monkeypatch: pytest.MonkeyPatch, supervisor: Supervisor) -> None:
    """By an earlier try of the task, whose request was slow: the task waits for it."""
    supervisor.answer = ErrorResponse(error=ErrorType.DAGRUN_ALREADY_EXISTS)
    assert build(monkeypatch, make_context("nightly_images")) == OWN


def test_job_cannot_be_started(monkeypatch: pytest.MonkeyPatch, supervisor: Supervisor) -> None:
    """Another try may help, and the recipe is not to blame."""
    supervisor.answer = ErrorResponse(error=ErrorType.API_SERVER_ERROR)
    use(monkeypatch, jobs=[])
    context = make_context("nightly_images")
    with pytest.raises(AirflowException, match="Airflow did not start the run"):
        BuildRecipeOperator(task_id="build_images", build=BUILD).execute(context)
    assert xcoms(context)["environment_failed"]


FOUND = {"a job of a user": ([job("other")], "other"), "the job of an earlier try": ([], OWN)}


@pytest.mark.parametrize(("jobs", "run_id"), FOUND.values(), ids=FOUND)
def test_job_is_shared(
    monkeypatch: pytest.MonkeyPatch, supervisor: Supervisor, jobs: list[dict[str, Any]], run_id: str
) -> None:
    """The recipe is not built twice at the same time; the API finds the job by the XCom."""
    assert build(monkeypatch, make_context("nightly_images", existing_runs=["other", OWN]), *jobs) == run_id
    assert supervisor.asked == []


NOT_BLAMED = {"environment_failed": True}


def end(runs: dict[str, str]) -> Context:
    """Resume the task when one of these runs has ended; returns its context."""
    context = make_context("nightly_images", existing_runs=runs)
    task = BuildRecipeOperator(task_id="build_images", build=BUILD)
    resumed = {"event": {"running": 0}, "run_id": RUN_ID}
    if runs.get(RUN_ID) == "success":
        task.resume_execution("resume", resumed, context)
    else:
        with pytest.raises(AirflowFailException):
            task.resume_execution("resume", resumed, context)
    return context


def test_job_has_ended() -> None:
    """The task ends as the job did. Another try would find the same job, which says whether the recipe is to blame."""
    assert xcoms(end({RUN_ID: "success"})) == {}
    assert xcoms(end({RUN_ID: "failed"})) == {"failure": f"the job {RUN_ID} failed. See its log", **NOT_BLAMED}


def test_job_was_deleted() -> None:
    """The night goes on, and the recipe is not to blame."""
    assert xcoms(end({})) == {"failure": f"the job {RUN_ID} was deleted", **NOT_BLAMED}


# Summarizing


def in_night(identity: str, outcome: str, failures: int) -> dict[str, Any]:
    """A recipe of `GET /nights/{id}`."""
    return {"recipe_id": identity, "name": f"name-{identity}", "outcome": outcome, "failures": failures}


def summary_of(*recipes: dict[str, Any]) -> dict[str, Any]:
    """The answer of the API for the night."""
    return {f"nights/{RUN_ID}": {"recipes": list(recipes), "paused": []}}


def test_summarize_counts_failures(monkeypatch: pytest.MonkeyPatch, configure: Callable[..., None]) -> None:
    """Only counts that changed are written; recipes that reach the limit are paused."""
    configure(nightly_pause_after=2)
    night = summary_of(in_night("1", "built", 0), in_night("2", "failed", 2), in_night("3", "unchanged", 0))
    known = [recipe("1", "a", 1), recipe("2", "b", 1), recipe("3", "c"), recipe("4", "d", 1)]
    api, context = use(monkeypatch, *known, **night), make_context()
    with pytest.raises(AirflowFailException, match="1 of 3 recipes failed: name-2"):
        SummarizeOperator(task_id="summarize", builds=[], images=[]).execute(context)
    assert api.changes == [
        ("PATCH", "recipes/1", {"nightly_failures": 0}),
        ("PATCH", "recipes/2", {"nightly_failures": 2}),
    ]
    kept = xcoms(context)["return_value"]
    assert [item["outcome"] for item in kept["recipes"]] == ["built", "failed", "unchanged"]
    assert kept["paused"] == [{"recipe_id": "2", "name": "b", "failures": 2}]


def test_count_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failures of the other recipes are counted all the same."""
    night = summary_of(in_night("1", "failed", 1), in_night("2", "failed", 1))
    api, context = use(monkeypatch, recipe("1", "a"), recipe("2", "b"), **night), make_context()
    api.failures["recipes/1"] = InputError("the record is invalid")
    with pytest.raises(AirflowFailException, match="2 of 2 recipes failed"):
        SummarizeOperator(task_id="summarize", builds=[], images=[]).execute(context)
    assert api.changes == [("PATCH", "recipes/2", {"nightly_failures": 1})]


def test_summarize_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another try of the task counts nothing twice."""
    api = use(monkeypatch, recipe("1"), **summary_of(in_night("1", "built", 0)))
    summary = SummarizeOperator(task_id="summarize", builds=[], images=[]).execute(make_context())
    assert not api.changes
    assert summary["recipes"][0]["recipe_id"] == "1"
