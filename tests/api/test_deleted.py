"""Deleting, undeleting and purging records over HTTP: `/deleted/*`, and DELETE in both versions."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from ims.errors import MissingError
from ims.records.database import Database
from ims.records.models import Image, Recipe
from ims.records.store import Records
from ims.storage.objects import ObjectName
from tests.api.jobs import DAG, RUNS, Inputs, make_inputs, run_state
from tests.api.records import IMAGES_BUCKET, REQUIRED, full, make, put, store_archive, store_image
from tests.api.wire import NOBODY, UNKNOWN_IDS, UNVERSIONED, V2, V3, Refused, assert_deleted, assert_problem
from tests.service import Service

KINDS = tuple(REQUIRED)
MODELS: dict[str, Any] = {"recipes": Recipe, "images": Image}
LINKED = ("recipes", "images")
HARD = (V2, UNVERSIONED)
DELETED = f"{V3}/deleted"
UNDELETE = {"operation": "undelete"}


def exists(service: Service, path: str) -> bool:
    """Whether an object is in S3."""
    try:
        service.store.stat(ObjectName.parse(path))
    except MissingError:
        return False
    return True


def deleted(api: httpx.Client, kind: str, **fields: Any) -> dict[str, Any]:
    """Creates and deletes a record; returns it as it was before."""
    record = make(api, kind, **fields)
    assert_deleted(api.delete(f"{V3}/{kind}/{record['id']}"))
    return record


def would_delete(answer: httpx.Response) -> dict[str, set[str]]:
    """Maps the ids of the records that would be deleted to their objects."""
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"would_delete"}
    for item in answer.json()["would_delete"]:
        assert set(item) == {"id", "name", "objects"}
    return {item["id"]: set(item["objects"]) for item in answer.json()["would_delete"]}


@pytest.mark.parametrize("kind", KINDS)
def test_tombstone(api: httpx.Client, service: Service, kind: str) -> None:
    """A deleted record is listed with the time of its deletion and its other fields; living records are not."""
    record, other = full(api, service, kind), make(api, kind)
    assert_problem(api.get(f"{DELETED}/{kind}/{record['id']}"), 404)
    assert_deleted(api.delete(f"{V3}/{kind}/{record['id']}"))
    tombstone = api.get(f"{DELETED}/{kind}/{record['id']}").json()
    age = datetime.now(UTC) - datetime.fromisoformat(tombstone["deleted"])
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert tombstone == {**record, "deleted": tombstone["deleted"]}
    listed = api.get(f"{DELETED}/{kind}").json()
    assert listed.count(tombstone) == 1
    assert other["id"] not in {item["id"] for item in listed}


@pytest.mark.parametrize("kind", KINDS)
def test_undelete(api: httpx.Client, service: Service, kind: str) -> None:
    """The record is exactly as it was, and the tombstone is gone."""
    record = full(api, service, kind)
    path = f"{DELETED}/{kind}/{record['id']}"
    assert_deleted(api.delete(f"{V3}/{kind}/{record['id']}"))
    assert_deleted(api.patch(path, json=UNDELETE))
    assert api.get(f"{V3}/{kind}/{record['id']}").json() == record
    assert api.get(f"{V3}/{kind}").json().count(record) == 1
    for method in ("GET", "PATCH", "DELETE"):
        assert_problem(api.request(method, path, json=UNDELETE if method == "PATCH" else None), 404)


@pytest.mark.parametrize("kind", KINDS)
def test_undelete_all(api: httpx.Client, kind: str) -> None:
    """PATCH of the collection undeletes all tombstones."""
    assert_deleted(api.delete(f"{DELETED}/{kind}"))
    gone = [deleted(api, kind) for _number in range(3)]
    assert_deleted(api.patch(f"{DELETED}/{kind}", json=UNDELETE))
    assert api.get(f"{DELETED}/{kind}").json() == []
    listed = api.get(f"{V3}/{kind}").json()
    assert all(record in listed for record in gone)


@pytest.mark.parametrize("kind", LINKED)
def test_undelete_with_taken_link(api: httpx.Client, service: Service, kind: str) -> None:
    """If another record links the object by now, undeleting is a conflict and changes nothing."""
    link = {"path": store_archive(service) if kind == "recipes" else store_image(service)[0]}
    record = deleted(api, kind, link=link)
    other = make(api, kind, link=link)
    for path in (f"{DELETED}/{kind}/{record['id']}", f"{DELETED}/{kind}"):
        assert_problem(api.patch(path, json=UNDELETE), 409)
    assert api.get(f"{DELETED}/{kind}/{record['id']}").status_code == 200
    assert api.get(f"{V3}/{kind}/{other['id']}").json() == other
    assert_deleted(api.delete(f"{V3}/{kind}/{other['id']}"))
    assert_deleted(api.patch(f"{DELETED}/{kind}/{record['id']}", json=UNDELETE))


OPERATIONS = {
    "another": Refused({"operation": "destroy"}, 422, ("operation",)),
    "null": Refused({"operation": None}, 422, ("operation",)),
    "none": Refused({"colour": "red"}, 422, ("operation", "colour")),
    "more": Refused({**UNDELETE, "name": "x"}, 422, ("name",)),
    "nothing": Refused({}, 400),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_operation(api: httpx.Client, kind: str, name: str) -> None:
    """Only `undelete` is accepted; other operations change nothing."""
    record, case = deleted(api, kind), OPERATIONS[name]
    for path in (f"{DELETED}/{kind}/{record['id']}", f"{DELETED}/{kind}"):
        assert_problem(api.patch(path, json=case.sent), case.status, *case.fields)
    assert api.get(f"{DELETED}/{kind}/{record['id']}").status_code == 200


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_id(api: httpx.Client, kind: str) -> None:
    """Every method answers 404."""
    for identity in UNKNOWN_IDS:
        for method in ("GET", "PATCH", "DELETE"):
            body = UNDELETE if method == "PATCH" else None
            assert_problem(api.request(method, f"{DELETED}/{kind}/{identity}", json=body), 404)
    assert_problem(api.post(f"{DELETED}/{kind}", json=REQUIRED[kind]), 405)


@pytest.mark.parametrize("kind", KINDS)
def test_purge(api: httpx.Client, service: Service, kind: str) -> None:
    """DELETE of a tombstone purges it with its objects; other tombstones stay."""
    other, record = deleted(api, kind), full(api, service, kind)
    path = f"{DELETED}/{kind}/{record['id']}"
    api.delete(f"{V3}/{kind}/{record['id']}")
    assert_deleted(api.delete(path))
    for method in ("GET", "PATCH", "DELETE"):
        assert_problem(api.request(method, path, json=UNDELETE if method == "PATCH" else None), 404)
    assert_problem(api.get(f"{V3}/{kind}/{record['id']}"), 404)
    assert api.get(f"{DELETED}/{kind}/{other['id']}").status_code == 200
    if kind in LINKED:
        assert not exists(service, record["link"]["path"])


@pytest.mark.parametrize("kind", KINDS)
def test_purge_all(api: httpx.Client, service: Service, kind: str) -> None:
    """DELETE of the collection purges all tombstones with their objects; living records stay."""
    record, living = full(api, service, kind), full(api, service, kind)
    api.delete(f"{V3}/{kind}/{record['id']}")
    deleted(api, kind)
    assert_deleted(api.delete(f"{DELETED}/{kind}"))
    assert api.get(f"{DELETED}/{kind}").json() == []
    assert api.get(f"{V3}/{kind}/{living['id']}").json() == living
    if kind in LINKED:
        assert not exists(service, record["link"]["path"])
        assert exists(service, living["link"]["path"])


def test_objects_of_an_image(api: httpx.Client, service: Service) -> None:
    """A purge removes the manifest and the artifacts in its folder; all other objects stay."""
    elsewhere = put(service, f"s3://{IMAGES_BUCKET}/shared-{NOBODY}/kernel")
    manifest, rootfs, _ = store_image(service, elsewhere)
    beside = put(service, manifest.replace("manifest.yaml", "notes"))
    similar = put(service, manifest.replace("/manifest.yaml", "-copy/rootfs"))
    image = deleted(api, "images", link={"path": manifest})
    path = f"{DELETED}/images/{image['id']}"
    assert would_delete(api.delete(path, params={"dry_run": True})) == {image["id"]: {manifest, rootfs}}
    assert_deleted(api.delete(path))
    assert [exists(service, name) for name in (manifest, rootfs)] == [False, False]
    assert all(exists(service, name) for name in (elsewhere, beside, similar))


def test_manifest_outside_of_a_folder(api: httpx.Client, service: Service) -> None:
    """A purge removes no other object of the bucket."""
    manifest, rootfs, other = store_image(service, put(service, f"s3://{IMAGES_BUCKET}/kernel-{NOBODY}"))
    top = put(service, f"s3://{IMAGES_BUCKET}/{NOBODY}", service.store.read_bytes(ObjectName.parse(manifest), 9999))
    image = deleted(api, "images", link={"path": top})
    assert_deleted(api.delete(f"{DELETED}/images/{image['id']}"))
    assert [exists(service, name) for name in (top, manifest, rootfs, other)] == [False, True, True, True]


def test_object_in_another_bucket(api: httpx.Client, service: Service) -> None:
    """An object outside of the bucket for its kind of record stays."""
    foreign = store_image(service, bucket="ims")
    image = deleted(api, "images", link={"path": foreign[0]})
    rootfs = store_image(service)[1]
    recipe = deleted(api, "recipes", link={"path": rootfs})
    for kind, record in (("images", image), ("recipes", recipe)):
        path = f"{DELETED}/{kind}/{record['id']}"
        assert would_delete(api.delete(path, params={"dry_run": True})) == {record["id"]: set()}
        assert_deleted(api.delete(path))
    assert all(exists(service, name) for name in (*foreign, rootfs))


@pytest.mark.parametrize("other_is", ["living", "deleted"])
def test_object_that_another_image_needs(api: httpx.Client, service: Service, other_is: str) -> None:
    """It stays while another record or tombstone needs it, and goes with the last."""
    manifest, rootfs = store_image(service)
    image = deleted(api, "images", link={"path": manifest})
    second = store_image(service, rootfs)
    other = make(api, "images", link={"path": second[0]})
    again = make(api, "images", link={"path": manifest})
    for record in (other, again):
        if other_is == "deleted":
            api.delete(f"{V3}/images/{record['id']}")
    assert_deleted(api.delete(f"{DELETED}/images/{image['id']}"))
    assert exists(service, manifest)
    assert exists(service, rootfs)
    last = f"{V2}/images/{again['id']}" if other_is == "living" else f"{DELETED}/images/{again['id']}"
    assert_deleted(api.delete(last))
    assert not exists(service, manifest)
    assert exists(service, rootfs), "another manifest names it"


@pytest.fixture
def records(service: Service) -> Iterator[Records]:
    """The records of the service, opened as a second process would."""
    database = Database(service.settings.records_url)
    yield Records(database)
    database.engine.dispose()


@pytest.mark.parametrize("kind", LINKED)
def test_interrupted_purge(api: httpx.Client, service: Service, records: Records, kind: str) -> None:
    """The tombstone stays, cannot be undeleted, and its objects cannot be linked. DELETE finishes the purge."""
    record = full(api, service, kind)
    link, path = record["link"]["path"], f"{DELETED}/{kind}/{record['id']}"
    api.delete(f"{V3}/{kind}/{record['id']}")
    records.begin_purge(MODELS[kind], record["id"], {link})
    assert api.get(path).status_code == 200
    assert_problem(api.patch(path, json=UNDELETE), 409)
    assert_problem(api.post(f"{V3}/{kind}", json={**REQUIRED[kind], "link": {"path": link}}), 422, "link")
    empty = make(api, kind)
    assert_problem(api.patch(f"{V3}/{kind}/{empty['id']}", json={"link": {"path": link}}), 422, "link")
    assert_deleted(api.patch(f"{DELETED}/{kind}", json=UNDELETE))
    assert api.get(path).status_code == 200, "undeleting all leaves out what is being purged"
    assert_deleted(api.delete(path))
    assert not exists(service, link)


def test_purge_without_objects(api: httpx.Client, service: Service) -> None:
    """If the objects are not in S3 any more, the tombstone is purged all the same."""
    paths = store_image(service)
    image = deleted(api, "images", link={"path": paths[0]})
    for path in paths:
        service.store.delete(ObjectName.parse(path))
    assert_deleted(api.delete(f"{DELETED}/images/{image['id']}"))
    assert_problem(api.get(f"{DELETED}/images/{image['id']}"), 404)


def test_concurrent_purges(api: httpx.Client, service: Service) -> None:
    """One request purges the tombstone, the others answer 404 or succeed."""
    image = deleted(api, "images", link={"path": store_image(service)[0]})
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _number: api.delete(f"{DELETED}/images/{image['id']}"), range(8)))
    assert {answer.status_code for answer in answers} <= {204, 404}
    assert 204 in {answer.status_code for answer in answers}


# v2


@pytest.mark.parametrize("root", HARD)
@pytest.mark.parametrize("kind", KINDS)
def test_versions_share_records(api: httpx.Client, root: str, kind: str) -> None:
    """A record that one version creates or changes is the same in the others."""
    record = make(api, kind, root)
    assert api.get(f"{root}/{kind}/{record['id']}").json() == record
    shown = api.get(f"{V3}/{kind}/{record['id']}").json()
    assert as_version_2(shown) == record
    assert shown["created"].endswith("Z")
    assert record in api.get(f"{root}/{kind}").json()
    if kind != "public-keys":
        changed = api.patch(f"{root}/{kind}/{record['id']}", json={"arch": "aarch64"}).json()
        assert changed == {**record, "arch": "aarch64"}


def as_version_2(record: dict[str, Any]) -> dict[str, Any]:
    """A record of version 3 as version 2 shows it: times have no time zone."""
    return {**record, "created": record["created"].removesuffix("Z")}


@pytest.mark.parametrize("root", HARD)
@pytest.mark.parametrize("kind", KINDS)
def test_hard_delete(api: httpx.Client, service: Service, root: str, kind: str) -> None:
    """DELETE of version 2 purges a record; its objects stay only with `cascade=false`."""
    for query, stays in (({}, False), ({"cascade": "true"}, False), ({"cascade": "false"}, True)):
        record, other = full(api, service, kind), make(api, kind)
        assert_deleted(api.delete(f"{root}/{kind}/{record['id']}", params=query))
        assert_problem(api.get(f"{root}/{kind}/{record['id']}"), 404)
        assert_problem(api.get(f"{DELETED}/{kind}/{record['id']}"), 404)
        assert api.get(f"{root}/{kind}/{other['id']}").json() == as_version_2(other)
        if kind in LINKED:
            assert exists(service, record["link"]["path"]) is stays


@pytest.mark.parametrize("root", HARD)
@pytest.mark.parametrize("kind", KINDS)
def test_hard_delete_all(api: httpx.Client, service: Service, root: str, kind: str) -> None:
    """DELETE of the collection purges all living records; tombstones of version 3 stay."""
    record, hidden = full(api, service, kind), deleted(api, kind)
    assert record["id"] in would_delete(api.delete(f"{root}/{kind}", params={"dry_run": "true"}))
    assert_deleted(api.delete(f"{root}/{kind}"))
    assert api.get(f"{root}/{kind}").json() == []
    listed = {item["id"] for item in api.get(f"{DELETED}/{kind}").json()}
    assert hidden["id"] in listed
    assert record["id"] not in listed
    if kind in LINKED:
        assert not exists(service, record["link"]["path"])


@pytest.mark.parametrize("root", HARD)
def test_no_tombstones(api: httpx.Client, root: str) -> None:
    """Version 2 has no tombstones."""
    assert_problem(api.get(f"{root}/deleted/images"), 404)


# Dry run


@pytest.mark.parametrize("root", [V3, V2, DELETED])
@pytest.mark.parametrize("kind", KINDS)
def test_dry_run(api: httpx.Client, service: Service, root: str, kind: str) -> None:
    """The answer names the records and objects, and nothing is removed."""
    record = full(api, service, kind)
    if root == DELETED:
        api.delete(f"{V3}/{kind}/{record['id']}")
    before = api.get(f"{root}/{kind}").json()
    expected: set[str] = set()
    if root != V3 and kind == "images":
        expected = {record["link"]["path"], record["link"]["path"].replace("manifest.yaml", "rootfs")}
    if root != V3 and kind == "recipes":
        expected = {record["link"]["path"]}
    query = {"dry_run": "true"}
    assert would_delete(api.delete(f"{root}/{kind}/{record['id']}", params=query)) == {record["id"]: expected}
    assert set(would_delete(api.delete(f"{root}/{kind}", params=query))) == {item["id"] for item in before}
    assert_problem(api.delete(f"{root}/{kind}/{NOBODY}", params=query), 404)
    assert api.get(f"{root}/{kind}").json() == before
    if kind in LINKED:
        assert exists(service, record["link"]["path"])


@pytest.mark.parametrize("query", [{"dry_rnu": "true"}, {"age": "1d"}, {"name": "x"}, {"dry_run": "true", "x": ""}])
@pytest.mark.parametrize("root", [V3, V2, DELETED])
@pytest.mark.parametrize("kind", KINDS)
def test_unknown_parameter(api: httpx.Client, root: str, kind: str, query: dict[str, str]) -> None:
    """It is refused, since ignoring a misspelled filter would delete too much."""
    record = make(api, kind) if root != DELETED else deleted(api, kind)
    for path in (f"{root}/{kind}", f"{root}/{kind}/{record['id']}"):
        assert_problem(api.delete(path, params=query), 400)
    assert api.get(f"{root}/{kind}/{record['id']}").status_code == 200


# Records in use


@pytest.fixture
def waiting(api: httpx.Client, service: Service) -> Iterator[tuple[Inputs, str]]:
    """A job that has not ended, and the records it uses."""
    assert api.patch(DAG, json={"is_paused": True}).status_code == 200
    inputs = make_inputs(service)
    job = api.post(f"{V3}/jobs", json=inputs.fields(job_type="create")).json()
    yield inputs, job["id"]
    api.patch(f"{RUNS}/{job['id']}", json={"state": "failed"})
    api.patch(DAG, json={"is_paused": False})
    run_state(api, job["id"])


def test_delete_record_in_use(api: httpx.Client, service: Service, waiting: tuple[Inputs, str]) -> None:
    """It can be deleted, which does not disturb the job, but it cannot be purged until the job has ended."""
    inputs, job = waiting
    used = {"recipes": inputs.garbage, "public-keys": inputs.key}
    archive = api.get(f"{V3}/recipes/{inputs.garbage}").json()["link"]["path"]
    for query in ({}, {"dry_run": "true"}):
        assert_problem(api.delete(f"{V2}/recipes/{inputs.garbage}", params=query), 409)
        assert_problem(api.delete(f"{V2}/recipes", params=query), 409)
    assert api.get(f"{V2}/recipes/{inputs.garbage}").status_code == 200
    for kind, identity in used.items():
        assert_deleted(api.delete(f"{V3}/{kind}/{identity}"))
        for path in (f"{DELETED}/{kind}/{identity}", f"{DELETED}/{kind}"):
            for query in ({}, {"dry_run": "true"}):
                answer = api.delete(path, params=query)
                assert_problem(answer, 409)
                assert job in answer.json()["detail"]
        assert api.get(f"{DELETED}/{kind}/{identity}").status_code == 200
    assert exists(service, archive)
    api.patch(DAG, json={"is_paused": False})
    run_state(api, job)
    ended = api.get(f"{V3}/jobs/{job}").json()
    assert "is not a gzip tar archive" in ended["reason"], "the job reads the recipe although it was deleted"
    for kind, identity in used.items():
        assert_deleted(api.delete(f"{DELETED}/{kind}/{identity}"))
    assert not exists(service, archive)
    assert api.get(f"{V3}/jobs/{job}").json()["arch"] == ended["arch"] == "x86_64", "the job keeps its architecture"


def test_key_of_a_running_job(api: httpx.Client, waiting: tuple[Inputs, str]) -> None:
    """Version 2 hides a key in use: CFS deletes it while the shell is open, and the job still needs it."""
    inputs, _ = waiting
    assert_deleted(api.delete(f"{UNVERSIONED}/public-keys/{inputs.key}"))
    assert_problem(api.get(f"{UNVERSIONED}/public-keys/{inputs.key}"), 404)
    assert api.get(f"{DELETED}/public-keys/{inputs.key}").status_code == 200
