"""The contract of `/jobs`."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from ims.api.jobs.logs import POLL_SECONDS
from ims.jobs import job_id
from tests.api.conftest import client, mint
from tests.api.jobs import ABSENT, DAG, JOBS, REFUSED, RUNS, Inputs, make_inputs, run_state, runs, wrong_field
from tests.api.wire import (
    BAD_BODIES,
    NOBODY,
    UNKNOWN_IDS,
    Refused,
    assert_bad_body,
    assert_deleted,
    assert_new,
    assert_problem,
)
from tests.flows.conftest import RECIPES
from tests.flows.waiting import wait_for
from tests.service import ENDED, Service

OF_IMS: dict[str, Any] = {
    "job_type": "create",
    "status": "creating",
    "arch": "x86_64",
    "enable_debug": False,
    "build_env_size": 60,
    "job_mem_size": 8,
    "kernel_file_name": "vmlinuz",
    "initrd_file_name": "initrd",
    "kernel_parameters_file_name": "kernel-parameters",
    "require_dkms": True,
    "ssh_containers": None,
    "resultant_image_id": None,
    "kubernetes_job": None,
    "kubernetes_service": None,
    "kubernetes_configmap": None,
    "kubernetes_namespace": None,
    "kubernetes_pvc": None,
    "kubernetes_secret": None,
    "remote_build_node": "",
}
OURS = {
    *("profiles", "started_by", "changes", "failed_step", "queue_position", "reason", "log_url"),
    *("dag_id", "dag_run_id", "steps"),
}
POOL = "/api/v2/pools/default_pool"
GIVEN = {"artifact_id", "public_key_id", "image_root_archive_name"}

NOT_CREATED = {
    "no type": Refused({"job_type": ABSENT}, 422, ("job_type",)),
    "type null": Refused({"job_type": None}, 422, ("job_type",)),
    "unknown type": Refused({"job_type": "destroy"}, 422, ("job_type",)),
    "customize a recipe": Refused({"job_type": "customize"}, 400, ("artifact_id",)),
    "shell": Refused({"ssh_containers": [{"name": "shell", "jail": False}]}, 400, ("ssh_containers",)),
    "two shells": Refused({"ssh_containers": [{"name": "a"}, {"name": "b"}]}, 400, ("ssh_containers",)),
    "shell with more": Refused({"ssh_containers": [{"name": "a", "port": 22}]}, 422, ("ssh_containers.0.port",)),
    "shells a mapping": Refused({"ssh_containers": {"name": "a"}}, 422, ("ssh_containers",)),
    "no key": Refused({"public_key_id": ABSENT}, 422, ("public_key_id",)),
    "key null": Refused({"public_key_id": None}, 422, ("public_key_id",)),
    "id": Refused({"id": str(uuid4())}, 422, ("id",)),
    "status": Refused({"status": "success"}, 422, ("status",)),
    "two mistakes": Refused({"build_env_size": 0, "colour": "red"}, 422, ("build_env_size", "colour")),
    **{name: Refused(case.sent, case.status, (wrong_field(case),)) for name, case in REFUSED.items()},
}

BAD_AGES = (
    "",
    "zzz",
    "1",
    "d",
    "-1d",
    "1.5d",
    "1 d",
    "1D",
    "1y",
    "1s",
    "1d1w",
    "2d,3d",
    "٣d",
    "999999w",
    "9" * 20 + "w",
)


@pytest.fixture(scope="module")
def inputs(service: Service) -> Inputs:
    """Recipes and keys to start jobs with."""
    return make_inputs(service)


@pytest.fixture(scope="module")
def kept() -> dict[str, str]:
    """Returns the run id of the job in `failed`."""
    return {}


@pytest.fixture
def failed(api: httpx.Client, inputs: Inputs, kept: dict[str, str]) -> dict[str, Any]:
    """A job that was started through Airflow with a run id that is not a UUID, and that failed."""
    run = kept.get("run", "none")
    if api.get(f"{RUNS}/{run}").status_code != 200:
        run = kept["run"] = f"nightly:{uuid4().hex}+a~b.c"
        body = {"dag_run_id": run, "logical_date": None, "conf": inputs.fields()}
        assert api.post(RUNS, json=body).status_code == 200
    run_state(api, run)
    answer = api.get(f"{JOBS}/{job_id(run)}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.fixture
def paused(api: httpx.Client, failed: dict[str, Any]) -> Iterator[None]:
    """Airflow accepts runs of the workflow but does not start them. Runs that a test leaves are ended.

    `failed` has to end before.
    """
    before = runs(api)
    assert api.patch(DAG, json={"is_paused": True}).status_code == 200
    yield
    left = runs(api) - before
    for run in left:
        api.patch(f"{RUNS}/{run}", json={"state": "failed"})
    assert api.patch(DAG, json={"is_paused": False}).status_code == 200
    for run in left:
        run_state(api, run)


def create(api: httpx.Client, inputs: Inputs, **fields: Any) -> dict[str, Any]:
    """Creates a job."""
    answer = api.post(JOBS, json=inputs.fields(job_type="create", **fields))
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def listed(api: httpx.Client, **query: Any) -> set[str]:
    """Returns the ids of the jobs that match a filter."""
    answer = api.get(JOBS, params=query)
    assert answer.status_code == 200, answer.text
    return {job["id"] for job in answer.json()}


@pytest.mark.usefixtures("paused")
def test_create(api: httpx.Client, inputs: Inputs) -> None:
    """POST creates a run with the id of the job; the answer has the fields and defaults of IMS."""
    job = create(api, inputs)
    assert_new(job, (*OF_IMS, *OURS, *GIVEN))
    assert {**job, **OF_IMS, "artifact_id": inputs.garbage, "public_key_id": inputs.key} == job
    assert (job["failed_step"], job["reason"]) == (None, None)
    assert (job["dag_id"], job["dag_run_id"]) == ("create_image", job["id"])
    run = api.get(f"{RUNS}/{job['id']}").json()
    assert run["conf"]["image_root_archive_name"] == job["image_root_archive_name"]
    assert run["triggering_user_name"] == "admin"


@pytest.mark.usefixtures("paused")
def test_create_with_every_field(api: httpx.Client, inputs: Inputs) -> None:
    """All fields that `cray ims` can send are stored."""
    given = {
        "image_root_archive_name": "größer / ein Abbild",
        "enable_debug": False,
        "build_env_size": 15,
        "job_mem_size": 8,
        "kernel_file_name": "vmlinuz-6.1.0+x",
        "initrd_file_name": "initrd.img",
        "kernel_parameters_file_name": "cmdline_1",
        "require_dkms": False,
        "ssh_containers": [],
    }
    job = create(api, inputs, **given)
    assert {**job, **given, "ssh_containers": None} == job
    assert api.get(f"{JOBS}/{job['id']}").json() == {**job, "steps": job["steps"]}


@pytest.mark.usefixtures("paused")
def test_create_with_debug_shell(api: httpx.Client, inputs: Inputs) -> None:
    """As in IMS, a shell that the job may open is listed from the start."""
    (shell,) = create(api, inputs, enable_debug=True)["ssh_containers"]
    assert (shell["name"], shell["jail"], shell["status"]) == ("debug", False, "pending")


@pytest.mark.parametrize("name", NOT_CREATED)
def test_not_created(api: httpx.Client, inputs: Inputs, name: str) -> None:
    """The answer names invalid fields, and no run is created."""
    before = runs(api)
    case = NOT_CREATED[name]
    answer = api.post(JOBS, json=inputs.fields(**{"job_type": "create", **case.sent}))
    assert_problem(answer, case.status, *case.fields)
    assert runs(api) == before


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_body(api: httpx.Client, failed: dict[str, Any], name: str) -> None:
    """POST and PATCH refuse a body that is not a JSON object, and no run is created."""
    before = runs(api)
    assert_bad_body(api, "POST", JOBS, BAD_BODIES[name])
    assert_bad_body(api, "PATCH", f"{JOBS}/{failed['id']}", BAD_BODIES[name])
    assert runs(api) == before


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("identity", UNKNOWN_IDS)
def test_unknown_id(api: httpx.Client, method: str, identity: str) -> None:
    """Unknown ids answer 404 with a problem, and nothing is deleted."""
    before = runs(api)
    body = {"status": "error"} if method == "PATCH" else None
    assert_problem(api.request(method, f"{JOBS}/{identity}", json=body), 404)
    assert runs(api) == before


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", ""), ("PATCH", ""), ("POST", f"/{NOBODY}"), ("PUT", f"/{NOBODY}")]
)
def test_no_such_method(api: httpx.Client, method: str, path: str) -> None:
    """Other methods answer 405 with a problem."""
    assert_problem(api.request(method, JOBS + path, json={"status": "error"}), 405)


def test_failed_job(api: httpx.Client, inputs: Inputs, failed: dict[str, Any], service: Service) -> None:
    """A run that was started through Airflow is a job. If it failed, it has the step, the reason and the log."""
    assert set(failed) == {"id", "created", *OF_IMS, *OURS, *GIVEN}
    assert failed["id"] == job_id(failed["dag_run_id"])
    assert UUID(failed["id"]).version == 5
    assert failed["artifact_id"] == inputs.garbage
    assert failed["status"] == "error"
    assert failed["failed_step"] == "fetch_recipe"
    assert failed["reason"].startswith("fetch_recipe: ")
    assert "is not a gzip tar archive" in failed["reason"]
    assert "\n" not in failed["reason"]
    assert "Traceback" not in failed["reason"]
    assert failed["resultant_image_id"] is None
    page = f"{service.settings.airflow_url}/dags/create_image/runs/{failed['dag_run_id']}/tasks/fetch_recipe"
    assert failed["log_url"] == page
    assert api.get(page).status_code == 200
    logged = api.get(f"{RUNS}/{failed['dag_run_id']}/taskInstances/fetch_recipe/logs/1")
    assert "is not a gzip tar archive" in logged.text


def test_failed_job_in_airflow(api: httpx.Client, failed: dict[str, Any]) -> None:
    """The run of a failed job is failed in Airflow, too."""
    assert run_state(api, failed["dag_run_id"]) == "failed"


def test_failed_job_steps(failed: dict[str, Any]) -> None:
    """The steps are the tasks of the workflow in order, each with its state, times and log."""
    steps = {step["name"]: step for step in failed["steps"]}
    assert list(steps)[:2] == ["open_workspace", "fetch_recipe"]
    assert list(steps)[-1] == "close_workspace"
    for step in failed["steps"]:
        assert set(step) == {"name", "state", "try_number", "started", "ended", "log_url"}
    assert steps["open_workspace"]["state"] == "success"
    assert steps["fetch_recipe"]["state"] == "failed"
    assert steps["fetch_recipe"]["try_number"] == 1
    assert steps["open_workspace"]["ended"] <= steps["fetch_recipe"]["started"] <= steps["fetch_recipe"]["ended"]
    assert steps["fetch_recipe"]["log_url"] == failed["log_url"]
    never = steps["build_image"]
    assert (never["state"], never["try_number"]) == ("upstream_failed", 0)
    assert never["started"] is None
    assert all(step["ended"] for step in failed["steps"]), "who follows a job waits for all its steps"


def test_failed_job_is_listed(api: httpx.Client, failed: dict[str, Any]) -> None:
    """The list has each job once, with the same fields as GET."""
    answer = api.get(JOBS)
    assert answer.status_code == 200
    assert answer.json().count(failed) == 1


FILTERS: dict[str, tuple[dict[str, Any], bool]] = {
    "status": ({"status": "error"}, True),
    "any case": ({"status": "ERROR", "job_type": "Create"}, True),
    "other status": ({"status": "success"}, False),
    "one of several": ({"status": ["success", "error"]}, True),
    "none of several": ({"status": ["success", "creating"]}, False),
    "type": ({"job_type": "create"}, True),
    "other type": ({"job_type": "customize"}, False),
    "old enough": ({"age": "0m"}, True),
    "too young": ({"age": "1h"}, False),
    "much too young": ({"age": "52w6d23h59m"}, False),
    "other name": ({"name": "another"}, False),
    "architecture": ({"arch": "x86_64"}, True),
    "other architecture": ({"arch": "aarch64"}, False),
    "later": ({"created_after": "2020-01-01T00:00:00Z", "created_before": "2200-01-01"}, True),
    "too late": ({"created_after": "2200-01-01T00:00:00+01:00"}, False),
    "too early": ({"created_before": "2020-01-01T00:00:00"}, False),
    "all": ({"status": "error", "job_type": "create", "age": "0d", "arch": "x86_64"}, True),
    "all but one": ({"status": "error", "job_type": "customize", "age": "0d"}, False),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filter(api: httpx.Client, failed: dict[str, Any], name: str) -> None:
    """Jobs match a filter if all of its parameters match."""
    query, taken = FILTERS[name]
    assert (failed["id"] in listed(api, **query)) is taken


BAD_FILTERS = {
    "name empty": Refused({"name": ""}, 422, ("name",)),
    "arch": Refused({"arch": "riscv64"}, 422, ("arch",)),
    "moment": Refused({"created_after": "yesterday"}, 422, ("created_after",)),
    "time out of range": Refused({"created_before": "9999-12-31T23:59:59-23:59"}, 422, ("created_before",)),
    "status": Refused({"status": "zzz"}, 400, ("status",)),
    "status empty": Refused({"status": ["error", ""]}, 400, ("status",)),
    "type": Refused({"job_type": "zzz"}, 400, ("job_type",)),
    **{f"age {age!r}": Refused({"age": age}, 400, ("age",)) for age in BAD_AGES},
}


@pytest.mark.parametrize("name", BAD_FILTERS)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_bad_filter(api: httpx.Client, failed: dict[str, Any], method: str, name: str) -> None:
    """An invalid filter is refused, and nothing is deleted."""
    before = runs(api)
    assert failed["dag_run_id"] in before
    case = BAD_FILTERS[name]
    assert_problem(api.request(method, JOBS, params=case.sent), case.status, *case.fields)
    assert runs(api) == before


def test_filter_by_name(api: httpx.Client, failed: dict[str, Any]) -> None:
    """Jobs can be filtered by the name of the image."""
    assert listed(api, name=failed["image_root_archive_name"]) == {failed["id"]}


def test_filter_by_moment(api: httpx.Client, failed: dict[str, Any]) -> None:
    """Both limits are exclusive."""
    assert failed["id"] not in listed(api, created_after=failed["created"])
    assert failed["id"] not in listed(api, created_before=failed["created"])


def test_dry_run(api: httpx.Client, failed: dict[str, Any]) -> None:
    """A dry run lists what would be deleted and deletes nothing."""
    before = runs(api)
    doomed = {"id": failed["id"], "name": failed["image_root_archive_name"], "objects": []}
    one = api.delete(f"{JOBS}/{failed['id']}", params={"dry_run": "true"})
    assert (one.status_code, one.json()) == (200, {"would_delete": [doomed]})
    several = api.delete(JOBS, params={"dry_run": "true", "status": "error"})
    assert doomed in several.json()["would_delete"]
    assert {item["id"] for item in several.json()["would_delete"]} == listed(api, status="error")
    assert runs(api) == before


def test_misspelt_filter(api: httpx.Client) -> None:
    """An unknown filter is refused: ignoring it would delete more than intended."""
    # Even if the misspelt filter were ignored, the other one would match no job.
    answer = api.delete(JOBS, params={"agee": "1d", "job_type": "customize"})
    assert_problem(answer, 400)
    assert "agee" in answer.json()["detail"]


CHANGES = {
    "status that it has": Refused({"status": "error"}, 200),
    "another status": Refused({"status": "success"}, 409),
    "back to work": Refused({"status": "building_image"}, 409),
    "an image that it did not make": Refused({"resultant_image_id": str(uuid4())}, 409),
    "unknown status": Refused({"status": "zzz"}, 422, ("status",)),
    "another field": Refused({"enable_debug": True}, 422, ("enable_debug",)),
    "unknown field": Refused({"colour": "red"}, 422, ("colour",)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_change(api: httpx.Client, failed: dict[str, Any], name: str) -> None:
    """PATCH accepts only the current values."""
    case = CHANGES[name]
    answer = api.patch(f"{JOBS}/{failed['id']}", json=case.sent)
    if case.status == 200:
        assert answer.status_code == 200, answer.text
        assert answer.json() == failed
    else:
        assert_problem(answer, case.status, *case.fields)
    assert api.get(f"{JOBS}/{failed['id']}").json() == failed


@pytest.mark.usefixtures("paused")
def test_waiting_job(api: httpx.Client, inputs: Inputs, failed: dict[str, Any]) -> None:
    """A job that has not started has the status `creating`, and PATCH cannot set a later one."""
    job = create(api, inputs)
    assert job["id"] in listed(api, status="creating")
    assert failed["id"] not in listed(api, status="creating")
    assert job["id"] not in listed(api, status="error")
    assert_problem(api.patch(f"{JOBS}/{job['id']}", json={"status": "success"}), 409)
    assert api.get(f"{JOBS}/{job['id']}").json()["status"] == "creating"


@pytest.mark.usefixtures("paused")
def test_queue_position(api: httpx.Client, inputs: Inputs, failed: dict[str, Any]) -> None:
    """Jobs wait in order of creation. A job that does not wait or was cancelled has no place in the queue."""
    jobs = [create(api, inputs)["id"] for _ in range(3)]

    def positions() -> list[int | None]:
        found = {job["id"]: job["queue_position"] for job in api.get(JOBS).json()}
        assert all(found[job] == api.get(f"{JOBS}/{job}").json()["queue_position"] for job in jobs)
        assert found[failed["id"]] is None
        return [found[job] for job in jobs]

    assert positions() == [1, 2, 3]
    assert api.patch(f"{JOBS}/{jobs[0]}", json={"status": "error"}).status_code == 200
    assert positions() == [None, 2, 3]


def cancelled(api: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Waits until the run of a job has failed; returns the job."""
    assert api.patch(DAG, json={"is_paused": False}).status_code == 200
    assert run_state(api, job["dag_run_id"]) == "failed"
    return dict(api.get(f"{JOBS}/{job['id']}").json())


def assert_cancelled(job: dict[str, Any]) -> None:
    """The reason says who cancelled the job, and when."""
    assert re.fullmatch(r"cancelled by admin at \d{4}-\d\d-\d\d \d\d:\d\d UTC", job["reason"])


@pytest.mark.usefixtures("paused")
def test_cancel_in_airflow(api: httpx.Client, inputs: Inputs) -> None:
    """If a user marks the run failed in Airflow's UI, the reason comes from Airflow's audit log."""
    job = create(api, inputs)
    assert api.patch(f"{RUNS}/{job['dag_run_id']}", json={"state": "failed"}).status_code == 200
    assert_cancelled(cancelled(api, job))


@pytest.mark.usefixtures("paused")
def test_cancel_by_status(api: httpx.Client, inputs: Inputs) -> None:
    """PATCH to `error` cancels a job at once and for good."""
    job = create(api, inputs)
    answer = api.patch(f"{JOBS}/{job['id']}", json={"status": "error"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "error"
    ended = cancelled(api, job)
    assert (ended["status"], ended["resultant_image_id"]) == ("error", None)
    assert_cancelled(ended)
    assert all(step["state"] != "success" for step in ended["steps"] if step["name"] != "close_workspace")


@pytest.mark.usefixtures("paused")
def test_cancel_by_delete(api: httpx.Client, inputs: Inputs) -> None:
    """DELETE cancels a job that has not ended; a second DELETE after its end deletes it."""
    job = create(api, inputs)
    assert_deleted(api.delete(f"{JOBS}/{job['id']}"))
    ended = cancelled(api, job)
    assert ended["status"] == "error"
    assert_cancelled(ended)
    assert_deleted(api.delete(f"{JOBS}/{job['id']}"))
    assert_problem(api.get(f"{JOBS}/{job['id']}"), 404)


@pytest.mark.usefixtures("paused")
def test_many_jobs(api: httpx.Client, inputs: Inputs) -> None:
    """Listing a hundred jobs that have not succeeded is fast, and leaves connections of Airflow for other requests."""
    body = {"logical_date": None, "conf": inputs.fields()}
    with ThreadPoolExecutor(4) as pool:
        started = list(pool.map(lambda _number: api.post(RUNS, json=body).json()["dag_run_id"], range(100)))
        begin = time.monotonic()
        lists = [pool.submit(listed, api, status="creating") for _number in range(2)]
        others = [api.get(f"{RUNS}/{run}").status_code for run in started[:20]]
        ids = [task.result() for task in lists]
        took = time.monotonic() - begin
        list(pool.map(lambda run: api.delete(f"{RUNS}/{run}"), started))
    assert set(others) == {200}
    for found in ids:
        assert {job_id(run) for run in started} <= found
    assert took < 20


@pytest.mark.usefixtures("paused")
def test_pages(api: httpx.Client, inputs: Inputs) -> None:
    """The pages together are the list in a stable order, even if a page ends between jobs of the same time."""
    body = {"logical_date": None, "conf": inputs.fields(), "run_after": "2021-02-03T04:05:06.789Z"}
    same = {f"page:{uuid4().hex}" for _number in range(3)}
    for run in same:
        assert api.post(RUNS, json={**body, "dag_run_id": run}).status_code == 200
    whole = [job["id"] for job in api.get(JOBS).json()]
    assert {job_id(run) for run in same} <= set(whole)
    for limit in (1, 2, len(whole)):
        answer, found = api.get(JOBS, params={"limit": limit}), []
        while True:
            assert 0 < len(answer.json()) <= limit
            found += [job["id"] for job in answer.json()]
            if "next" not in answer.links:
                break
            answer = api.get(answer.links["next"]["url"])
        assert found == whole
    for run in same:
        api.delete(f"{RUNS}/{run}")


# The same request twice


def keyed(api: httpx.Client, key: str, fields: dict[str, Any]) -> httpx.Response:
    """Sends a job with an idempotency key."""
    return api.post(JOBS, json=fields, headers={"Idempotency-Key": key})


@pytest.mark.usefixtures("paused")
def test_idempotency_key(api: httpx.Client, service: Service, inputs: Inputs) -> None:
    """The same key and body return the same job; another user, another key or no key give a new job."""
    key, fields = uuid4().hex, inputs.fields(job_type="create")
    first, again = keyed(api, key, fields), keyed(api, key, fields)
    assert (first.status_code, again.status_code) == (201, 201), again.text
    assert first.json()["id"] == again.json()["id"]
    assert api.get(f"{JOBS}/{first.json()['id']}").status_code == 200
    others = [keyed(api, uuid4().hex, fields), api.post(JOBS, json=fields)]
    with client(service, mint(service, "op")) as another:
        others.append(keyed(another, key, fields))
    ids = {answer.json()["id"] for answer in others}
    assert len(ids) == 3
    assert first.json()["id"] not in ids


@pytest.mark.usefixtures("paused")
def test_idempotency_key_of_another_job(api: httpx.Client, inputs: Inputs) -> None:
    """The same key with another body is a conflict, and no run is created."""
    key, fields = uuid4().hex, inputs.fields(job_type="create")
    assert keyed(api, key, fields).status_code == 201
    before = runs(api)
    assert_problem(keyed(api, key, {**fields, "build_env_size": 7}), 409)
    assert_problem(keyed(api, key, {**fields, "job_type": "customize"}), 409)
    assert runs(api) == before


@pytest.mark.usefixtures("paused")
def test_idempotency_key_at_the_same_moment(api: httpx.Client, inputs: Inputs) -> None:
    """If the same request arrives many times at once, one job is created and all answers have it."""
    key, fields, before = uuid4().hex, inputs.fields(job_type="create"), runs(api)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _number: keyed(api, key, fields), range(8)))
    assert {answer.status_code for answer in answers} == {201}, answers[0].text
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(runs(api) - before) == 1


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_bad_idempotency_key(api: httpx.Client, inputs: Inputs, key: str) -> None:
    """An invalid key is refused."""
    before = runs(api)
    assert_problem(keyed(api, key, inputs.fields(job_type="create")), 422, "Idempotency-Key")
    assert runs(api) == before


# Logs


def log(api: httpx.Client, job: dict[str, Any], step: str, **query: Any) -> httpx.Response:
    """Requests the log of a step."""
    return api.get(f"{JOBS}/{job['id']}/logs/{step}", params=query)


@pytest.mark.parametrize("query", [{}, {"try": 1}, {"follow": "true"}, {"follow": "true", "try": 1}])
def test_log(api: httpx.Client, failed: dict[str, Any], query: dict[str, Any]) -> None:
    """A log is plain text with the messages of the step and without the path of the log file."""
    answer = log(api, failed, "fetch_recipe", **query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "is not a gzip tar archive" in answer.text
    assert "/logs/" not in answer.text.partition("\n")[0]
    assert "::group::" not in answer.text


BAD_LOGS: dict[str, tuple[str, dict[str, Any], int]] = {
    "unknown step": ("zzz", {}, 404),
    "step of another number": ("upload_artifacts[7]", {}, 404),
    "step that did not begin": ("build_image", {}, 404),
    "try that was not made": ("fetch_recipe", {"try": 2}, 404),
    "try zero": ("fetch_recipe", {"try": 0}, 422),
    "try word": ("fetch_recipe", {"try": "last"}, 422),
    "unknown parameter": ("fetch_recipe", {"tail": 1}, 400),
}


@pytest.mark.parametrize("name", BAD_LOGS)
def test_no_log(api: httpx.Client, failed: dict[str, Any], name: str) -> None:
    """An unknown step or try answers with a problem that has the reason."""
    step, query, status = BAD_LOGS[name]
    assert_problem(log(api, failed, step, **query), status, *(["try"] if status == 422 else []))


def test_log_of_no_job(api: httpx.Client) -> None:
    """Unknown ids answer 404 with a problem."""
    assert_problem(api.get(f"{JOBS}/{NOBODY}/logs/fetch_recipe"), 404)


@pytest.mark.usefixtures("paused")
def test_log_is_followed(api: httpx.Client, inputs: Inputs) -> None:
    """Following can begin before the step, delivers its messages while it runs, and ends with it."""
    job = create(api, inputs)
    assert_problem(log(api, job, "fetch_recipe"), 404)
    with api.stream("GET", f"{JOBS}/{job['id']}/logs/fetch_recipe", params={"follow": "true"}) as answer:
        assert answer.status_code == 200
        assert api.patch(DAG, json={"is_paused": False}).status_code == 200
        text = "".join(answer.iter_text())
    assert "is not a gzip tar archive" in text
    run_state(api, job["dag_run_id"])
    assert log(api, job, "fetch_recipe").text == text


def test_log_is_followed_from_before_a_try_runs(api: httpx.Client, inputs: Inputs) -> None:
    """A try that waits for a slot has a number and an empty log."""
    slots = api.get(POOL).json()["slots"]
    set_slots(api, 0)
    try:
        job = create(api, inputs)
        step = f"{RUNS}/{job['dag_run_id']}/taskInstances/open_workspace"
        wait_for(lambda: api.get(step).json()["try_number"] == 1)
        path = f"{JOBS}/{job['id']}/logs/open_workspace"
        with api.stream("GET", path, params={"follow": "true"}) as answer:
            time.sleep(3 * POLL_SECONDS)
            set_slots(api, slots)
            text = "".join(answer.iter_text())
    finally:
        set_slots(api, slots)
    run_state(api, job["dag_run_id"])
    assert log(api, job, "open_workspace").text == text != ""


def set_slots(api: httpx.Client, slots: int) -> None:
    """Sets how many steps of the default pool can run at once."""
    answer = api.patch(POOL, params={"update_mask": "slots"}, json={"pool": "default_pool", "slots": slots})
    assert answer.status_code == 200, answer.text


def test_delete(api: httpx.Client, failed: dict[str, Any]) -> None:
    """DELETE of an ended job deletes the job and its run, and no other."""
    others = runs(api) - {failed["dag_run_id"]}
    assert_deleted(api.delete(f"{JOBS}/{failed['id']}"))
    for method in ("GET", "DELETE"):
        assert_problem(api.request(method, f"{JOBS}/{failed['id']}"), 404)
    assert_problem(api.patch(f"{JOBS}/{failed['id']}", json={"status": "error"}), 404)
    assert failed["id"] not in listed(api)
    assert runs(api) == others


@pytest.mark.usefixtures("paused")
def test_delete_by_filter(api: httpx.Client, inputs: Inputs, failed: dict[str, Any]) -> None:
    """DELETE with a filter deletes the jobs that match, and no other."""
    waiting = create(api, inputs)
    for query in ({"status": "success", "age": "0m"}, {"job_type": "customize"}, {"age": "1h"}):
        assert_deleted(api.delete(JOBS, params=query))
    assert {failed["id"], waiting["id"]} <= listed(api)
    assert api.get(f"{JOBS}/{waiting['id']}").json()["status"] == "creating"
    assert_deleted(api.delete(JOBS, params={"status": ["error", "success"], "job_type": "create"}))
    assert failed["id"] not in listed(api)
    assert waiting["id"] in listed(api, status="creating")


def test_delete_when_the_workflow_is_paused(api: httpx.Client, service: Service) -> None:
    """The first DELETE cancels a running job, which Airflow then keeps running; the second one deletes it."""
    recipe = service.push(RECIPES / "zypper", "sles15", REPOSITORY="http://127.0.0.1:9")  # nothing listens there
    job = service.create(recipe["id"])
    service.wait(job["id"], until=("waiting_for_repos", *ENDED))
    try:
        assert api.patch(DAG, json={"is_paused": True}).status_code == 200
        assert_deleted(api.delete(f"{JOBS}/{job['id']}"))
        assert api.get(f"{RUNS}/{job['id']}").json()["state"] == "running"
        assert api.get(f"{JOBS}/{job['id']}").json()["status"] == "error"
        assert_deleted(api.delete(f"{JOBS}/{job['id']}"))
    finally:
        assert api.patch(DAG, json={"is_paused": False}).status_code == 200
    for path in (f"{JOBS}/{job['id']}", f"{RUNS}/{job['id']}"):
        assert api.get(path).status_code == 404
