"""The trigger guard: Airflow's own `POST /dags/{id}/dagRuns`, which the UI uses too, refuses what `/jobs` refuses."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

from ims.params import CreateParams
from tests.api.jobs import ABSENT, DAG, REFUSED, RUNS, Inputs, make_inputs, runs, wrong_field
from tests.api.wire import JSON, Refused
from tests.service import Service


@pytest.fixture(scope="module")
def inputs(service: Service) -> Inputs:
    """Recipes and keys to start runs with."""
    return make_inputs(service)


def trigger(client: httpx.Client, conf: Any) -> httpx.Response:
    """Requests a run from Airflow."""
    return client.post(RUNS, json={"logical_date": None, "conf": conf})


@pytest.mark.parametrize("name", REFUSED)
def test_refused(api: httpx.Client, inputs: Inputs, name: str) -> None:
    """The answer names the invalid field, and no run is created."""
    before = runs(api)
    answer = trigger(api, inputs.fields(**REFUSED[name].sent))
    assert answer.status_code in (400, 422), answer.text
    assert wrong_field(REFUSED[name]) in answer.text
    assert runs(api) == before


TYPES: dict[str, Any] = {
    "enable_debug": "no",
    "build_env_size": "5",
    "job_mem_size": True,
    "repository_timeout": "9",
    "require_dkms": "yes",
    "force": "yes",
}


@pytest.mark.parametrize("field", TYPES)
def test_wrong_type(api: httpx.Client, inputs: Inputs, field: str) -> None:
    """Text instead of a number is refused, because tasks get `conf` unchanged."""
    before = runs(api)
    answer = trigger(api, inputs.fields(**{field: TYPES[field]}))
    assert answer.status_code in (400, 422), answer.text
    assert field in answer.text
    assert runs(api) == before


CONFS = {
    "empty": Refused({}, fields=("artifact_id", "image_root_archive_name")),
    "null": Refused(None, fields=("artifact_id", "image_root_archive_name")),
    "list": Refused([], fields=("conf",)),
    "text": Refused("x", fields=("conf",)),
    "name that is no text": Refused({"\ud800": 1}, fields=("conf",)),
}


@pytest.mark.parametrize("name", CONFS)
def test_bad_conf(api: httpx.Client, name: str) -> None:
    """If `conf` lacks required fields, the answer names them."""
    before = runs(api)
    answer = api.post(RUNS, content=json.dumps({"logical_date": None, "conf": CONFS[name].sent}), headers=JSON)
    assert answer.status_code == 422, answer.text
    for field in CONFS[name].fields:
        assert field in answer.text
    assert runs(api) == before


def test_debug_shell_needs_a_key(api: httpx.Client, inputs: Inputs) -> None:
    """A debug shell needs a public key."""
    before = runs(api)
    answer = trigger(api, inputs.fields(public_key_id=ABSENT, enable_debug=True))
    assert answer.status_code == 422, answer.text
    assert "public_key_id" in answer.text
    assert runs(api) == before


def test_no_conf(api: httpx.Client) -> None:
    """A body without `conf` counts as an empty `conf`."""
    before = runs(api)
    answer = api.post(RUNS, json={"logical_date": None})
    assert answer.status_code == 422, answer.text
    assert "artifact_id" in answer.text
    assert runs(api) == before


AROUND: dict[str, tuple[str, str]] = {
    "slash": (f"{RUNS}/", "utf-8"),
    "escaped": (RUNS.replace("_", "%5F").replace("R", "%52"), "utf-8"),
    "two slashes": (RUNS.replace("/dags", "//dags"), "utf-8"),
    "dots": (RUNS.replace("/dags/", "/dags/%2e/"), "utf-8"),
    "parameter": (f"{RUNS};x=1", "utf-8"),
    "query": (f"{RUNS}?x=1", "utf-8"),
    "UTF-16": (RUNS, "utf-16"),
    "byte order mark": (RUNS, "utf-8-sig"),
}


@pytest.mark.parametrize("name", AROUND)
@pytest.mark.parametrize("content_type", ["application/json", "application/x+json", "text/plain", ""])
def test_no_way_around(api: httpx.Client, inputs: Inputs, name: str, content_type: str) -> None:
    """No spelling of the request creates a run with an unknown key."""
    path, encoding = AROUND[name]
    before = runs(api)
    body = json.dumps({"logical_date": None, "conf": inputs.fields(colour="red")}).encode(encoding)
    headers = {"Content-Type": content_type} if content_type else {}
    answer = api.post(path, content=body, headers=headers, follow_redirects=True)
    assert 400 <= answer.status_code < 500, answer.text
    assert runs(api) == before


def test_repeated_conf(api: httpx.Client, inputs: Inputs) -> None:
    """If a body has two values of `conf`, the guard checks the one that Airflow uses."""
    before = runs(api)
    good, bad = json.dumps(inputs.fields()), json.dumps(inputs.fields(colour="red"))
    answer = api.post(RUNS, content=f'{{"logical_date": null, "conf": {good}, "conf": {bad}}}', headers=JSON)
    assert answer.status_code == 422, answer.text
    assert "colour" in answer.text
    assert runs(api) == before


MALFORMED = {
    "nothing": b"",
    "cut off": b'{"conf": ',
    "not UTF-8": b'{"conf": "\xff"}',
    "a list": b"[]",
    "null": b"null",
    "nested too deep": b'{"conf":' * 20_000,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(api: httpx.Client, name: str) -> None:
    """A body that is not a JSON object gets the answer that Airflow gives for any workflow."""
    before = runs(api)
    answer = api.post(RUNS, content=MALFORMED[name], headers=JSON)
    elsewhere = api.post(RUNS.replace("create_image", "no_such_dag"), content=MALFORMED[name], headers=JSON)
    assert (answer.status_code, answer.content) == (elsewhere.status_code, elsewhere.content)
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/json"
    assert runs(api) == before


def test_too_large(api: httpx.Client) -> None:
    """A body that is too large is refused."""
    before = runs(api)
    assert api.post(RUNS, content=b" " * 2_000_000, headers=JSON).status_code == 413
    assert runs(api) == before


def test_good_conf(api: httpx.Client, inputs: Inputs) -> None:
    """A valid request passes unchanged, and the answer is Airflow's."""
    run, conf = f"guard-{uuid4()}", inputs.fields(build_env_size=5)
    assert api.patch(DAG, json={"is_paused": True}).status_code == 200
    try:
        answer = api.post(RUNS, json={"dag_run_id": run, "logical_date": None, "conf": conf, "note": "by hand"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["dag_run_id"] == run
        assert answer.json()["note"] == "by hand"
        assert {**answer.json()["conf"], **conf} == answer.json()["conf"]
        assert api.delete(f"{RUNS}/{run}").status_code in (204, 409)
    finally:
        assert api.patch(DAG, json={"is_paused": False}).status_code == 200


@pytest.mark.parametrize("token", [None, "nonsense"])
def test_stranger(api: httpx.Client, nobody: httpx.Client, inputs: Inputs, token: str | None) -> None:
    """Without a valid token, the answer is the same for every `conf`: it tells nothing about records."""
    before = runs(api)
    if token is not None:
        nobody.headers["Authorization"] = f"Bearer {token}"
    confs: tuple[Any, ...] = (
        inputs.fields(),
        inputs.fields(colour="red"),
        inputs.fields(artifact_id=str(uuid4())),
        {},
        [],
    )
    answers = [trigger(nobody, conf) for conf in confs]
    assert {answer.status_code for answer in answers} == {401 if token is None else 403}
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].headers["content-type"] == "application/json"
    assert runs(api) == before


@pytest.mark.parametrize("conf", [{}, {"colour": "red"}, {"artifact_id": str(uuid4())}])
def test_viewer(api: httpx.Client, viewer: httpx.Client, inputs: Inputs, conf: dict[str, str]) -> None:
    """A viewer cannot start a run."""
    before = runs(api)
    answer = trigger(viewer, inputs.fields(**conf))
    assert answer.status_code == 403, answer.text
    assert runs(api) == before


def test_run_has_an_id(api: httpx.Client, inputs: Inputs) -> None:
    """Airflow would take the id from a time in the request. The guard chooses one that no other run can have."""
    moment = "2020-01-01T00:00:00Z"
    started = [
        api.post(RUNS, json={"logical_date": None, "run_after": moment, "conf": inputs.fields()}) for _time in range(2)
    ]
    assert [answer.status_code for answer in started] == [200, 200], started[1].text
    first, second = (answer.json()["dag_run_id"] for answer in started)
    assert first != second
    assert first.startswith("manual__")
    assert not first.startswith("manual__2020")


def test_no_backfill(api: httpx.Client) -> None:
    """Nobody checks the `conf` of a backfill, so the workflows with a schedule allow none."""
    for dag_id in ("nightly_images", "image_maintenance"):
        body = {"dag_id": dag_id, "from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-03T00:00:00Z"}
        answer = api.post("/api/v2/backfills", json={**body, "dag_run_conf": {"colour": "red"}})
        assert answer.status_code == 400, answer.text
        assert "backfill" in answer.text


def test_other_routes(api: httpx.Client) -> None:
    """All other requests to Airflow pass."""
    assert api.get(RUNS).status_code == 200
    assert "dag_runs" in api.post("/api/v2/dags/~/dagRuns/list", json={}).json()
    assert api.get(DAG).json()["dag_id"] == "create_image"
    assert api.get("/api/v2/version").status_code == 200
    other = trigger_other(api, "no_such_dag")
    assert other.status_code == 404
    assert other.headers["content-type"] == "application/json"
    assert api.put(RUNS, json={}).headers["content-type"] == "application/json"


def trigger_other(api: httpx.Client, dag_id: str) -> httpx.Response:
    """Requests a run of another DAG with a `conf` that our workflows would refuse."""
    return api.post(f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": {"colour": "red"}})


def test_params(api: httpx.Client) -> None:
    """The trigger form has a field for each param of a job, in order, with a description and a section."""
    answer = api.get(f"{DAG}/details")
    assert answer.status_code == 200
    params = answer.json()["params"]
    assert list(params) == list(CreateParams.model_fields)
    for name, param in params.items():
        schema = param["schema"]
        assert schema["section"], name
        assert schema["title"], name
        assert schema["title"] != name.replace("_", " ").title(), f"{name} is titled by pydantic"
        assert param["description"].endswith("."), name
    sections = [param["schema"]["section"] for param in params.values()]
    assert sections == sorted(sections, key=sections.index), "a section's fields stand together"


@pytest.mark.parametrize("name", CreateParams.model_fields)
def test_param(api: httpx.Client, name: str) -> None:
    """The type, default and limits of a param are those of the model; null is allowed only if the model allows it."""
    param = api.get(f"{DAG}/details").json()["params"][name]
    field = CreateParams.model_fields[name]
    assert param["value"] == (None if field.is_required() else field.default)
    types = param["schema"]["type"]
    types = types if isinstance(types, list) else [types]
    assert ("null" in types) is (field.default is None and not field.is_required())
    bounds = {name: param["schema"].get(name) for name in ("minimum", "maximum", "minLength", "maxLength", "pattern")}
    plain = CreateParams.model_json_schema()["properties"][name]
    expected = [plain, *plain.get("anyOf", [])]
    for bound, value in bounds.items():
        assert value == next((schema[bound] for schema in expected if bound in schema), None), bound
