"""The trigger guard in front of an application that accepts everything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from ims.api.runs import trigger_guard
from ims.api.runs.trigger_guard import MAX_RUN_ID, TriggerGuard
from ims.jobs import derive_id
from tests.api.offline import offline_api

USED = str(uuid4())
NIGHT: dict[str, Any] = {"logical_date": None, "conf": {}}
RUNS = "/api/v2/dags/nightly_images/dagRuns"
XCOMS = f"{RUNS}/x/taskInstances/choose_recipes/xcomEntries"


async def airflow(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it received."""
    body = await Request(scope, receive).body()
    await JSONResponse({"received": body.decode()})(scope, receive, send)


@pytest.fixture(params=["", "/below"])
def guarded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """Airflow behind the guard, at the root and below another path. A plan has the run USED."""
    monkeypatch.setattr(trigger_guard, "dags_with_run", lambda run: ["plan_images"] if run == USED else [])
    url = f"http://testserver{request.param}"
    with offline_api(monkeypatch):
        yield TestClient(TriggerGuard(airflow), base_url=url, root_path=request.param)


def send(guarded: TestClient, user: str, method: str, path: str, body: Any = None) -> Any:
    """Sends a request of a user."""
    return guarded.request(method, path, json=body, headers={"Authorization": f"Bearer {user}"})


def test_valid_request_passes(guarded: TestClient) -> None:
    """A request with a free id passes unchanged; one without an id gets one."""
    body = {**NIGHT, "dag_run_id": str(uuid4()), "note": "by hand"}
    assert json.loads(send(guarded, "user", "POST", RUNS, body).json()["received"]) == body
    bodies = (NIGHT, {**NIGHT, "dag_run_id": ""}, {**NIGHT, "dag_run_id": None})
    passed = [json.loads(send(guarded, "user", "POST", RUNS, body).json()["received"]) for body in bodies]
    assert len({request.pop("dag_run_id") for request in passed}) == 3
    assert passed == [NIGHT] * 3


REFUSED: dict[str, tuple[Any, int]] = {
    "used": (USED, 409),
    "derived": (derive_id("night"), 422),
    "path": ("../x", 422),
    "dots": ("..", 422),
    "number": (1, 422),
    "long": ("x" * (MAX_RUN_ID + 1), 422),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_id(guarded: TestClient, name: str) -> None:
    """The answer names the field. A viewer does not learn which ids are in use."""
    run, status = REFUSED[name]
    for path in (RUNS, f"{RUNS}/", RUNS.replace("nightly_images", "plan_images")):
        answer = send(guarded, "user", "POST", path, {**NIGHT, "dag_run_id": run})
        assert answer.status_code == status
        assert "dag_run_id" in answer.json()["detail"]
    assert send(guarded, "viewer", "POST", RUNS, {**NIGHT, "dag_run_id": run}).status_code == 200


@pytest.mark.parametrize("user", ["viewer", "user", "admin", "ims-tasks"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_xcoms(guarded: TestClient, method: str, user: str) -> None:
    """Nobody writes XComs of our workflows through this API. Whoever is unknown gets the answer of Airflow."""
    for path in (
        XCOMS,
        f"{XCOMS}/",
        f"{XCOMS}/workspace",
        f"{XCOMS}/a/b",
        XCOMS.replace("xcomEntries", "state-store/a"),
    ):
        assert send(guarded, user, method, path, {}).status_code == 403
        assert send(guarded, "nobody", method, path, {}).status_code == 200
    assert send(guarded, user, "GET", XCOMS).status_code == 200
    assert send(guarded, user, method, XCOMS.replace("nightly_images", "other"), {}).status_code == 200


def test_workflow_is_not_deleted(guarded: TestClient) -> None:
    """Airflow would delete all runs with it. Single runs can be deleted."""
    assert send(guarded, "admin", "DELETE", "/api/v2/dags/create_image").status_code == 403
    assert send(guarded, "admin", "DELETE", f"{RUNS}/x").status_code == 200
    assert send(guarded, "admin", "DELETE", "/api/v2/dags/other").status_code == 200
    assert send(guarded, "admin", "PATCH", "/api/v2/dags/create_image", {}).status_code == 200
