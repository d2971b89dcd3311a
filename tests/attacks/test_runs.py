"""Attacks on the jobs of others through Airflow's own API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from ims.jobs import derive_id, job_id, nightly_run_id
from tests.api.conftest import client, mint
from tests.api.jobs import Inputs, make_inputs, runs
from tests.flows.conftest import RECIPES
from tests.service import ENDED, Service

V2 = "/api/v2"
STARTED: dict[str, dict[str, Any]] = {
    "create_image": {},
    "customize_image": {},
    "plan_images": {"recipes": []},
    "nightly_images": {"recipes": []},
    "image_maintenance": {"dry_run": True},
}
BAD_IDS = ["../../secrets", "..", ".hidden", "a/b", "a" * 250, "a b", 7, ["x"], "a\0b", "x\ny"]


@pytest.fixture
def user(service: Service) -> Iterator[httpx.Client]:
    """The client of a user."""
    with client(service, mint(service, "user")) as attacker:
        yield attacker


@pytest.fixture(scope="module")
def inputs(service: Service) -> Inputs:
    """Recipes and keys to start runs with."""
    return make_inputs(service)


@pytest.fixture
def victim(service: Service) -> Iterator[dict[str, Any]]:
    """A job of somebody else, which waits for a repository."""
    recipe = service.push(RECIPES / "zypper", "sles15", REPOSITORY="http://127.0.0.1:9")  # nothing listens there
    job = service.wait(service.create(recipe["id"])["id"], until=("waiting_for_repos", *ENDED))
    assert job["status"] == "waiting_for_repos", job["reason"]
    yield job
    service.client.call("PATCH", f"jobs/{job['id']}", json={"status": "error"})
    service.wait(job["id"])


def files(folder: Path) -> set[str]:
    """The names of all files below a folder."""
    return {str(path) for path in folder.rglob("*")}


def test_taking_the_run_id_of_another_job(
    service: Service, user: httpx.Client, victim: dict[str, Any], inputs: Inputs
) -> None:
    """No run of any workflow starts under the id of a running job, whose workspace it would wipe."""
    workspace = service.workspace(victim["id"])
    before = files(workspace)
    assert before
    for dag_id, conf in STARTED.items():
        body = {"dag_run_id": victim["dag_run_id"], "logical_date": None, "conf": conf or inputs.fields()}
        answer = user.post(f"{V2}/dags/{dag_id}/dagRuns", json=body)
        # The artifact is a recipe, which customize_image refuses before it looks at the id.
        assert answer.status_code == (400 if dag_id == "customize_image" else 409), answer.text
    assert service.workspace(victim["id"]) == workspace
    assert before <= files(workspace)
    assert service.client.get(f"jobs/{victim['id']}")["status"] == "waiting_for_repos"


@pytest.mark.parametrize("run_id", BAD_IDS, ids=repr)
def test_run_id_that_is_a_path(service: Service, user: httpx.Client, inputs: Inputs, run_id: Any) -> None:
    """Ids of runs become names of folders and objects: odd ones are refused."""
    before = runs(service.http)
    for dag_id in ("create_image", "plan_images"):
        body = {"dag_run_id": run_id, "logical_date": None, "conf": STARTED[dag_id] or inputs.fields()}
        answer = user.post(f"{V2}/dags/{dag_id}/dagRuns", json=body)
        assert answer.status_code in (400, 422), answer.text
        assert "dag_run_id" in answer.text
    assert runs(service.http) == before


def test_taking_the_place_of_a_nightly_build(service: Service, user: httpx.Client, inputs: Inputs) -> None:
    """The ids of the builds of a night can be computed beforehand: nobody else may use them."""
    before = runs(service.http)
    night = "scheduled__2030-01-01T01:00:00+00:00"
    for run_id in (nightly_run_id(night, inputs.garbage), job_id(night), derive_id("user\nkey")):
        body = {"dag_run_id": run_id, "logical_date": None, "conf": inputs.fields()}
        answer = user.post(f"{V2}/dags/create_image/dagRuns", json=body)
        assert answer.status_code == 422, answer.text
        assert "dag_run_id" in answer.text
    assert runs(service.http) == before


def test_forged_results_of_tasks(service: Service, user: httpx.Client, victim: dict[str, Any]) -> None:
    """XComs say which folder and which objects belong to a job: only its tasks write them."""
    tasks = f"{V2}/dags/create_image/dagRuns/{victim['dag_run_id']}/taskInstances/open_workspace"
    entry = f"{tasks}/xcomEntries/image_id"
    before = service.http.get(entry).json()["value"]
    other = str(uuid4())
    attempts = [
        user.patch(entry, json={"value": other}),
        user.delete(entry),
        user.post(f"{tasks}/xcomEntries", json={"key": "workspace", "value": "/etc"}),
        user.post(f"{tasks}/xcomEntries", json={"key": "new", "value": "/etc"}),
        user.patch(entry.replace("/dags/", "//dags/"), json={"value": other}),
    ]
    assert {answer.status_code for answer in attempts[:4]} == {403}
    assert attempts[4].status_code in (403, 404, 405)
    assert service.http.get(entry).json()["value"] == before


@pytest.mark.parametrize("dag_id", STARTED)
def test_deleting_a_workflow(service: Service, user: httpx.Client, dag_id: str) -> None:
    """With a workflow, Airflow would delete the runs of all users, open shells included."""
    before = runs(service.http)
    for path in (f"{V2}/dags/{dag_id}", f"{V2}/dags/{dag_id}/"):
        assert user.delete(path).status_code == 403
    assert service.http.get(f"{V2}/dags/{dag_id}").json()["dag_id"] == dag_id
    assert runs(service.http) == before


@pytest.mark.parametrize("dag_id", STARTED)
def test_viewer_starts_nothing(service: Service, inputs: Inputs, dag_id: str) -> None:
    """A viewer starts no workflow, whatever the body is, and the answer tells nothing about ids."""
    before = runs(service.http)
    with client(service, mint(service, "viewer")) as viewer:
        bodies: list[dict[str, Any]] = [
            {"dag_run_id": run, "logical_date": None, "conf": {}} for run in ("..", str(uuid4()), *before)
        ]
        answers = [viewer.post(f"{V2}/dags/{dag_id}/dagRuns", json=body) for body in bodies]
    assert {(answer.status_code, answer.content) for answer in answers} == {(403, answers[0].content)}
    assert inputs.garbage not in answers[0].text
    assert runs(service.http) == before
