"""How a request names records: `POST /jobs`, `POST /nights` and Airflow's trigger form."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from ims.api.errors import FieldError
from ims.api.runs.trigger_guard import check_trigger
from ims.jobs import job_id
from ims.records.models import Image, PublicKey, Recipe
from ims.workflows import CREATE_IMAGE, CUSTOMIZE_IMAGE, NIGHTLY_IMAGES, PLAN_IMAGES, Workflow
from tests.api.offline import Offline
from tests.api.offline_airflow import MemoryAirflow
from tests.api.wire import assert_problem
from tests.service import PUBLIC_KEY


class Named:
    """Two recipes, two keys and two images of the same name, which is new."""

    def __init__(self, offline: Offline) -> None:
        self.name = f"site {uuid4()}"
        digits = uuid4().hex
        self.prefix = digits[:7]
        self.recipes = [self.add(offline, Recipe, number, digits) for number in range(2)]
        self.images = [self.add(offline, Image, number, digits) for number in range(2)]
        self.keys = [self.add(offline, PublicKey, number, digits) for number in range(2)]

    def add(self, offline: Offline, kind: Any, number: int, digits: str) -> str:
        """Register a record; returns its id."""
        fields: dict[str, Any] = {"public_key": PUBLIC_KEY}
        if kind is not PublicKey:
            path = offline.store.put_image() if kind is Image else offline.store.put(f"s3://ims/{uuid4()}")
            fields = {"link": {"type": "s3", "path": path, "etag": ""}, "link_path": path}
        if kind is Recipe:
            fields |= {"recipe_type": "kiwi-ng", "linux_distribution": "sles15"}
        identity = f"{digits[:7]}{number}-{uuid4().hex[:4]}-4000-8000-{uuid4().hex[:12]}"
        return str(offline.records.add(kind(id=identity, name=self.name, **fields)).id)


@pytest.fixture
def named(offline: Offline) -> Named:
    """Records to refer to."""
    return Named(offline)


# What a request says instead of an id, and the number of the record that it means.
FOUND: dict[str, tuple[Any, int]] = {
    "name": (lambda named, _ids: named.name, 1),
    "id": (lambda _named, ids: ids[0], 0),
    "id in capitals": (lambda _named, ids: ids[0].upper(), 0),
    "beginning of the id": (lambda named, _ids: f"{named.prefix}0", 0),
    "beginning in capitals": (lambda named, _ids: f"{named.prefix}1".upper(), 1),
    "almost all of the id": (lambda _named, ids: ids[1][:-1], 1),
}
LOST: dict[str, tuple[Any, str]] = {
    "unknown name": (lambda _named: "no such thing", "has the id or name"),
    "part of the name": (lambda named: named.name[:-1], "has the id or name"),
    "name in capitals": (lambda named: named.name.upper(), "has the id or name"),
    "ambiguous beginning": (lambda named: named.prefix, "begin with"),
    "short beginning": (lambda named: named.prefix[:3], "has the id or name"),
    "pattern": (lambda named: f"{named.prefix[:5]}%", "has the id or name"),
    "empty": (lambda _named: "", "at least 1 character"),
    "too long": (lambda _named: "x" * 1025, "at most 1024 characters"),
    "NUL": (lambda named: f"{named.name}\0", "match pattern"),
    "number": (lambda _named: 7, "valid string"),
    "half a character": (lambda _named: "\ud800", "valid string"),
    "list": (lambda named: [named.name], "valid string"),
}


def fields(named: Named, **changes: Any) -> dict[str, Any]:
    """The body of a create job."""
    ids = {"artifact_id": named.recipes[0], "public_key_id": named.keys[0]}
    return {"job_type": "create", "image_root_archive_name": "x", **ids, **changes}


@pytest.mark.parametrize("text", FOUND)
def test_job_names_records(offline: Offline, airflow: MemoryAirflow, named: Named, text: str) -> None:
    """What is passed on and shown is the full id."""
    spell, number = FOUND[text]
    for job_type, ids in (("create", named.recipes), ("customize", named.images)):
        texts = {"artifact_id": spell(named, ids), "public_key_id": spell(named, named.keys)}
        answer = offline.request("user", "POST", "/v3/jobs", fields(named, job_type=job_type, **texts))
        assert answer.status_code == 201, answer.text
        job, run = answer.json(), airflow.runs[f"dags/{job_type}_image/dagRuns/{answer.json()['id']}"]
        for found in (job, run["conf"]):
            assert (found["artifact_id"], found["public_key_id"]) == (ids[number], named.keys[number])


@pytest.mark.parametrize("text", LOST)
@pytest.mark.parametrize("field", ["artifact_id", "public_key_id"])
def test_job_names_nothing(offline: Offline, airflow: MemoryAirflow, named: Named, field: str, text: str) -> None:
    """The answer names the field, and nothing is started."""
    spell, message = LOST[text]
    body = json.dumps(fields(named, **{field: spell(named)}))
    headers = {"Authorization": "Bearer user", "Content-Type": "application/json"}
    answer = offline.http.post("/v3/jobs", content=body, headers=headers)
    assert_problem(answer, 422, field)
    assert message in answer.text
    assert airflow.changes == []


def test_candidates(offline: Offline, named: Named) -> None:
    """The answer lists the newest ids that begin with the text, but not all of thousands."""
    answer = offline.request("user", "POST", "/v3/jobs", fields(named, artifact_id=named.prefix))
    assert all(identity in answer.json()["detail"] for identity in named.recipes)
    digits = uuid4().hex[:6]
    ids = [f"{digits}{number:02}-0000-4000-8000-{uuid4().hex[:12]}" for number in range(9)]
    for identity in ids:
        offline.records.add(PublicKey(id=identity, name="x", public_key=PUBLIC_KEY))
    detail = offline.request("user", "POST", "/v3/jobs", fields(named, public_key_id=digits)).json()["detail"]
    assert [identity in detail for identity in ids] == [False] * 4 + [True] * 5


def test_deleted_records_have_no_name(offline: Offline, named: Named) -> None:
    """Then the name means the newest of those that are left."""
    offline.request("user", "DELETE", f"/v3/recipes/{named.recipes[1]}")
    for text in (named.name, named.prefix):
        answer = offline.request("user", "POST", "/v3/jobs", fields(named, artifact_id=text))
        assert answer.json()["artifact_id"] == named.recipes[0]


def test_name_before_beginning_of_an_id(offline: Offline, named: Named) -> None:
    """A record may be named like the beginning of the id of another."""
    key = offline.records.add(PublicKey(name=f"{named.prefix}0", public_key=PUBLIC_KEY))
    answer = offline.request("user", "POST", "/v3/jobs", fields(named, public_key_id=f"{named.prefix}0"))
    assert answer.json()["public_key_id"] == key.id


def test_repeated_request_with_names(offline: Offline, airflow: MemoryAirflow, named: Named) -> None:
    """The key of a request makes one job of all requests, whether they name or identify the recipe.

    Meanwhile, somebody registers another recipe of that name, and the recipe of the job is deleted.
    """
    for number, text in enumerate((named.name, named.recipes[1], named.name, named.recipes[1][:8])):
        if number == 2:
            named.add(offline, Recipe, 2, named.prefix)
            offline.records.delete(Recipe, named.recipes[1])
        answer = offline.http.post(
            "/v3/jobs",
            json=fields(named, artifact_id=text),
            headers={"Authorization": "Bearer user", "Idempotency-Key": named.name},
        )
        assert answer.status_code == 201, answer.text
    assert len(airflow.runs) == 1


def trigger(workflow: Workflow, **conf: Any) -> dict[str, Any]:
    """Sends the trigger form; returns the `conf` that Airflow gets."""
    body = check_trigger(workflow, json.dumps({"logical_date": None, "conf": conf}).encode())
    return dict(json.loads(body)["conf"])


@pytest.mark.parametrize("text", FOUND)
@pytest.mark.usefixtures("offline")
def test_trigger_form_names_records(named: Named, text: str) -> None:
    """Airflow gets the full ids, and the rest of the form unchanged."""
    spell, number = FOUND[text]
    rest = {"image_root_archive_name": "x", "enable_debug": False}
    for workflow, ids in ((CREATE_IMAGE, named.recipes), (CUSTOMIZE_IMAGE, named.images)):
        texts = {"artifact_id": spell(named, ids), "public_key_id": spell(named, named.keys)}
        expected = {"artifact_id": ids[number], "public_key_id": named.keys[number]}
        assert trigger(workflow, **texts, **rest) == {**expected, **rest}
    for other in (NIGHTLY_IMAGES, PLAN_IMAGES):
        recipes = [spell(named, named.recipes), named.recipes[number]]
        assert trigger(other, recipes=recipes) == {"recipes": [named.recipes[number]]}
    assert trigger(NIGHTLY_IMAGES) == {}


@pytest.mark.parametrize("text", LOST)
@pytest.mark.usefixtures("offline")
def test_trigger_form_names_nothing(named: Named, text: str) -> None:
    """The field is named."""
    spell, message = LOST[text]
    for workflow in (CREATE_IMAGE, CUSTOMIZE_IMAGE):
        with pytest.raises(FieldError, match=message) as refused:
            trigger(workflow, artifact_id=spell(named), public_key_id=named.keys[0], image_root_archive_name="x")
        assert "artifact_id" in refused.value.fields
    with pytest.raises(FieldError, match=message) as refused:
        trigger(NIGHTLY_IMAGES, recipes=[named.recipes[0], spell(named)])
    assert "recipes.1" in refused.value.fields


def test_night_names_recipes(offline: Offline, named: Named, monkeypatch: pytest.MonkeyPatch) -> None:
    """`POST /nights` passes on the full ids."""
    sent: list[Any] = []

    async def call(_airflow: Any, _method: str, _path: str, **arguments: Any) -> Any:
        sent.append(arguments["json"]["conf"])
        raise FieldError.of("recipes", "enough")

    monkeypatch.setattr(MemoryAirflow, "call", call)
    offline.request("user", "POST", "/v3/nights", {"recipes": [named.name, f"{named.prefix}0"]})
    assert sent == [{"recipes": [named.recipes[1], named.recipes[0]]}]


def test_note_of_a_run(offline: Offline, airflow: MemoryAirflow, named: Named) -> None:
    """The UI shows which image a run makes and the id of its job; a name cannot forge a line, and a note is kept."""
    name = "site\ncancelled by admin at 2026-01-01 00:00 UTC"
    for job_type in ("create", "customize"):
        sent = fields(named, job_type=job_type, artifact_id=named.name, image_root_archive_name=name)
        job = offline.request("user", "POST", "/v3/jobs", sent).json()
        note = airflow.runs[f"dags/{job_type}_image/dagRuns/{job['id']}"]["note"]
        assert note == f"image {' '.join(name.split())}, job {job['id']}"
    conf = {"artifact_id": named.name, "image_root_archive_name": "x" * 1024}
    for given, expected in (("", "image x"), (None, "image x"), ("mine", "mine")):
        body = json.dumps({"conf": conf, "note": given}).encode()
        checked = json.loads(check_trigger(CREATE_IMAGE, body))
        assert checked["note"].startswith(expected)
        assert len(checked["note"]) < 1000
        assert given == "mine" or checked["note"].endswith(job_id(checked["dag_run_id"]))
    assert "note" not in json.loads(check_trigger(NIGHTLY_IMAGES, b"{}"))


# Which jobs need a key: what they open, and whether they do without.
KEYLESS: dict[str, tuple[dict[str, Any], bool]] = {
    "script": ({"script": "true"}, True),
    "shell": ({}, False),
    "shell in a jail": ({"ssh_containers": [{"jail": True}]}, False),
}


@pytest.mark.parametrize("name", KEYLESS)
def test_customization_without_a_key(offline: Offline, airflow: MemoryAirflow, named: Named, name: str) -> None:
    """Only a job that opens a shell needs one."""
    sent, works = KEYLESS[name]
    body = {"job_type": "customize", "artifact_id": named.name, "image_root_archive_name": "x", **sent}
    answers = [offline.request("user", "POST", "/v3/jobs", sent) for sent in (body, {**body, "public_key_id": None})]
    for answer in answers:
        if works:
            assert (answer.status_code, answer.json()["public_key_id"]) == (201, None)
        else:
            assert_problem(answer, 422, "public_key_id")
    assert bool(airflow.runs) == works


def test_debug_shell_without_a_key(offline: Offline, airflow: MemoryAirflow, named: Named) -> None:
    """A build without a debug shell needs no key in the trigger form; with one, it does."""
    conf = {"artifact_id": named.name, "image_root_archive_name": "x"}
    assert trigger(CREATE_IMAGE, **conf)["artifact_id"] == named.recipes[1]
    with pytest.raises(FieldError) as refused:
        trigger(CREATE_IMAGE, **conf, enable_debug=True)
    assert set(refused.value.fields) == {"public_key_id"}
    assert_problem(offline.request("user", "POST", "/v3/jobs", {**conf, "job_type": "create"}), 422, "public_key_id")
    assert airflow.changes == []
