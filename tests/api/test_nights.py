"""`/nights`, and starting a night through Airflow. tests/flows/test_nightly.py tests what a night does."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api.jobs import Inputs, make_inputs
from tests.api.wire import V3, Refused
from tests.service import Service

NIGHTS = f"{V3}/nights"
DAG = "/api/v2/dags/nightly_images"
RUNS = f"{DAG}/dagRuns"


@pytest.fixture(scope="module")
def inputs(service: Service) -> Inputs:
    """Recipes of which only one can be built."""
    return make_inputs(service)


def ended(api: httpx.Client, night: str, timeout: float = 300) -> dict[str, Any]:
    """Waits until a night has ended; returns it."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found: dict[str, Any] = api.get(f"{NIGHTS}/{night}").json()
        if found["status"] in ("success", "error"):
            return found
        time.sleep(0.5)
    raise TimeoutError(f"the night {night} did not end in {timeout} s: {found}")


REFUSED = {
    "unknown": Refused({"colour": "red"}, 422),
    "recipes null": Refused({"recipes": None}, 422),
    "recipes a text": Refused({"recipes": "<garbage>"}, 422),
    "recipe no UUID": Refused({"recipes": ["zzz"]}, 422),
    "recipe unknown": Refused({"recipes": [str(uuid4())]}, 400),
    "recipe deleted": Refused({"recipes": ["<deleted>"]}, 400),
    "recipe unlinked": Refused({"recipes": ["<unlinked>"]}, 400),
    "recipe packer": Refused({"recipes": ["<packer>"]}, 400),
    "recipe aarch64": Refused({"recipes": ["<aarch64>"]}, 400),
    "force word": Refused({"force": "perhaps"}, 422),
}


def filled(inputs: Inputs, sent: dict[str, Any]) -> dict[str, Any]:
    """Replaces the names of inputs by their ids."""
    ids = {f"<{name}>": identity for name, identity in vars(inputs).items()}
    recipes = sent.get("recipes")
    return {**sent, "recipes": [ids.get(name, name) for name in recipes]} if isinstance(recipes, list) else sent


@pytest.mark.parametrize("name", REFUSED)
def test_refused(api: httpx.Client, inputs: Inputs, name: str) -> None:
    """Both ways refuse an invalid night and name the field; no run is created."""
    case, before = REFUSED[name], api.get(RUNS).json()["total_entries"]
    sent = filled(inputs, case.sent)
    answer = api.post(NIGHTS, json=sent)
    assert answer.status_code == case.status, answer.text
    assert next(iter(case.sent)) in answer.text
    other = api.post(RUNS, json={"logical_date": None, "conf": sent})
    assert other.status_code in (400, 422), other.text
    assert next(iter(case.sent)) in other.text
    assert api.get(RUNS).json()["total_entries"] == before


def test_viewer(viewer: httpx.Client, nobody: httpx.Client) -> None:
    """A viewer can see nights but cannot start one."""
    assert viewer.get(NIGHTS).status_code == 200
    assert viewer.post(NIGHTS, json={}).status_code == 403
    assert nobody.get(NIGHTS).status_code == 401


def test_unknown(api: httpx.Client) -> None:
    """An unknown id answers 404."""
    assert api.get(f"{NIGHTS}/{uuid4()}").status_code == 404
    assert api.get(f"{NIGHTS}/x").status_code == 404


def test_nights(api: httpx.Client, inputs: Inputs) -> None:
    """A night with nothing to do succeeds; a night whose recipe fails has the reason and counts the failure once.

    Lists are newest first, in pages; a run started by Airflow's own API is a night too.
    """
    empty = api.post(NIGHTS, json={"force": False})
    assert empty.status_code == 201, empty.text
    assert empty.json()["result"] is None
    named = f"by-hand-{uuid4()}"
    conf = {"recipes": [inputs.garbage], "force": True}
    assert api.post(RUNS, json={"dag_run_id": named, "logical_date": None, "conf": conf}).status_code == 200

    first = ended(api, empty.json()["id"])
    assert (first["status"], first["recipes"], first["force"], first["reason"]) == ("success", [], False, None)
    assert first["result"].startswith("nothing to do: no recipe is due")
    second = ended(api, named)
    assert (second["status"], second["failed"], second["force"]) == ("error", 1, True)
    assert second["reason"].startswith("summarize: 1 of 1 recipes failed: x")
    (recipe,) = second["recipes"]
    job = api.get(f"{V3}/jobs/{recipe['job_id']}").json()
    assert (recipe["outcome"], recipe["failures"], recipe["image_id"]) == ("failed", 1, None)
    assert recipe["reason"] == job["reason"]
    assert job["public_key_id"] is None
    assert api.get(f"{V3}/recipes/{inputs.garbage}").json()["nightly_failures"] == 1
    # The id that is derived from the run id works, too.
    assert api.get(f"{NIGHTS}/{second['id']}").json() == second

    # Other tests of this stack may have had nights before.
    all_nights = [night["id"] for night in api.get(NIGHTS, params={"limit": 100}).json()]
    assert all_nights[:2] == [second["id"], first["id"]]
    page = api.get(NIGHTS, params={"limit": 1})
    pages = page.json()
    while "next" in page.links:
        page = api.get(page.links["next"]["url"])
        assert len(page.json()) == 1
        pages += page.json()
    assert [night["id"] for night in pages] == all_nights


def test_params(api: httpx.Client) -> None:
    """The trigger form has the params of the API. Tests have no schedule."""
    details = api.get(f"{DAG}/details").json()
    assert list(details["params"]) == ["recipes", "force"]
    assert details["timetable_summary"] is None
    assert details["max_active_runs"] == 1
    pool = api.get("/api/v2/pools/nightly").json()
    assert (pool["slots"], pool["include_deferred"]) == (2, True)
