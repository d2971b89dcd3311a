"""The contract of `/images`."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml

from ims.images.changes import Changes
from ims.storage.manifest import BOOT_PARAMETERS, INITRD, KERNEL, ROOTFS
from ims.storage.objects import ObjectName
from tests.api.wire import (
    BAD_BODIES,
    NOBODY,
    UNKNOWN_IDS,
    V3,
    Refused,
    assert_bad_body,
    assert_deleted,
    assert_new,
    assert_problem,
)
from tests.service import Service

IMAGES = f"{V3}/images"
BUCKET = "boot-images"
ROOT = "s3://boot-images/test-artifacts/rootfs"
DEFAULTS: dict[str, Any] = {
    "link": None,
    "arch": "x86_64",
    "metadata": {},
    "job_id": None,
    "source_image_id": None,
    "changes": None,
    "source_recipe_id": None,
    "checked": None,
    "pinned": False,
    "kernels": None,
    "package_count": None,
    "size": None,
    "customization_digest": None,
    "nightly": False,
    "nightly_failures": 0,
    "scrubbed": None,
    "damage": None,
}
MISSING = f"s3://{BUCKET}/{uuid4()}/manifest.yaml"

BAD_FIELDS = {
    "unknown": Refused({"name": "x", "colour": "red"}, 422, ("colour",)),
    "id": Refused({"name": "x", "id": str(uuid4())}, 422, ("id",)),
    "name empty": Refused({"name": ""}, 422, ("name",)),
    "name null": Refused({"name": None}, 422, ("name",)),
    "name NUL": Refused({"name": "a\0b"}, 422, ("name",)),
    "arch": Refused({"name": "x", "arch": "riscv64"}, 422, ("arch",)),
    "arch null": Refused({"name": "x", "arch": None}, 422, ("arch",)),
    "job_id": Refused({"name": "x", "job_id": "zzz"}, 422, ("job_id",)),
    "source": Refused({"name": "x", "source_image_id": 1}, 422, ("source_image_id",)),
    "changes": Refused({"name": "x", "changes": 1}, 422, ("changes",)),
    "metadata null": Refused({"name": "x", "metadata": None}, 422, ("metadata",)),
    "metadata list": Refused({"name": "x", "metadata": [{"key": "a", "value": "b"}]}, 422, ("metadata",)),
    "metadata number": Refused({"name": "x", "metadata": {"a": 1}}, 422, ("metadata.a",)),
    "metadata null value": Refused({"name": "x", "metadata": {"a": None}}, 422, ("metadata.a",)),
    "metadata NUL": Refused({"name": "x", "metadata": {"a": "\0"}}, 422, ("metadata.a",)),
    "metadata pair, value": Refused({"name": "x", "metadata": {"key": "a", "value": 1}}, 422, ("metadata.a",)),
    "metadata pair, key": Refused({"name": "x", "metadata": {"key": ["a"], "value": "b"}}, 422, ("metadata.key",)),
    "nightly": Refused({"name": "x", "nightly": True}, 422, ("nightly",)),
    "digest": Refused({"name": "x", "customization_digest": "x"}, 422, ("customization_digest",)),
    "size": Refused({"name": "x", "size": -1}, 422, ("size",)),
    "size of no disk": Refused({"name": "x", "size": 2**63}, 422, ("size",)),
    "failures": Refused({"name": "x", "nightly_failures": -1}, 422, ("nightly_failures",)),
    "link unknown": Refused({"name": "x", "link": {"path": MISSING, "size": 1}}, 422, ("link.size",)),
    "link type": Refused({"name": "x", "link": {"path": MISSING, "type": "http"}}, 422, ("link.type",)),
    "link path": Refused({"name": "x", "link": {"type": "s3"}}, 422, ("link.path",)),
    "link not S3": Refused({"name": "x", "link": {"path": "https://example.org/x"}}, 422, ("link",)),
    "link to nothing": Refused({"name": "x", "link": {"path": MISSING}}, 422, ("link",)),
}


def artifact(kind: str = ROOTFS, path: str = ROOT) -> dict[str, Any]:
    """Returns an entry of a manifest."""
    return {"type": kind, "md5": "d41d8cd98f00b204e9800998ecf8427e", "link": {"type": "s3", "path": path, "etag": "x"}}


def manifest(*artifacts: dict[str, Any], version: Any = "1.0") -> dict[str, Any]:
    """Returns a manifest as IMS writes it."""
    return {"version": version, "created": "2026-11-22 19:00:00.000000", "artifacts": list(artifacts)}


def without(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns a document without one of its members."""
    return {key: value for key, value in document.items() if key != name}


GOOD = manifest(artifact(), artifact(KERNEL), artifact(INITRD), artifact(BOOT_PARAMETERS))

GOOD_MANIFESTS: dict[str, bytes] = {
    "JSON": json.dumps(GOOD).encode(),
    "YAML": yaml.safe_dump(GOOD).encode(),
    "rootfs only": json.dumps(manifest(artifact())).encode(),
    "another kind, unknown": json.dumps(manifest(artifact(), artifact("application/octet-stream"))).encode(),
}

BAD_MANIFESTS: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 422),
    "not text": (b"\xff\xfe\xfa", 422),
    "neither JSON nor YAML": (b"{{{ [", 422),
    "a list": (b"[]", 422),
    "version 2.0": (json.dumps(manifest(artifact(), version="2.0")).encode(), 422),
    "version another number": (json.dumps(manifest(artifact(), version=2)).encode(), 422),
    "no version": (json.dumps(without(GOOD, "version")).encode(), 422),
    "no artifacts": (json.dumps(without(GOOD, "artifacts")).encode(), 422),
    "artifacts null": (json.dumps({**GOOD, "artifacts": None}).encode(), 422),
    "artifact without link": (json.dumps(manifest(without(artifact(), "link"))).encode(), 422),
    "artifact elsewhere": (json.dumps(manifest(artifact(path="https://example.org/rootfs"))).encode(), 422),
    "object not there": (json.dumps(manifest(artifact(), artifact(KERNEL, MISSING))).encode(), 422),
    "object that S3 refuses": (json.dumps(manifest(artifact(path=f"s3://{BUCKET}/../x"))).encode(), 422),
    "larger than a MiB": (json.dumps(GOOD).encode() + b" " * 1024 * 1024, 422),
    "nested too deep": (b"[" * 20_000, 422),
    "a MiB of brackets": (b"[" * 1024 * 1024, 422),
    "time that is none": (yaml.safe_dump(GOOD).encode() + b"\nbuilt: 2001-99-99\n", 422),
    "Python object": (b"!!python/object/apply:os.system ['id']", 422),
    "no rootfs": (json.dumps(manifest(artifact(KERNEL))).encode(), 400),
    "nothing": (json.dumps(manifest()).encode(), 400),
    "two rootfs": (json.dumps(manifest(artifact(), artifact())).encode(), 400),
}

CHANGE = {"PATCH": {"arch": "aarch64"}}


def make(api: httpx.Client, **fields: Any) -> dict[str, Any]:
    """Creates an image."""
    answer = api.post(IMAGES, json={"name": "compute", **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def get(api: httpx.Client, image: dict[str, Any]) -> dict[str, Any]:
    """Returns an image."""
    answer = api.get(f"{IMAGES}/{image['id']}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def patch(api: httpx.Client, image: dict[str, Any], **fields: Any) -> httpx.Response:
    """Changes an image."""
    return api.patch(f"{IMAGES}/{image['id']}", json=fields)


def linked(path: str, etag: str = "") -> dict[str, str]:
    """Returns a link as answers have it."""
    return {"path": path, "type": "s3", "etag": etag}


def store(service: Service, data: bytes, name: str = "manifest.yaml") -> str:
    """Uploads a manifest, and the object that all manifests name; returns the address of the manifest."""
    service.store.write_bytes(ObjectName.parse(ROOT), b"rootfs")
    where = ObjectName(BUCKET, f"{uuid4()}/{name}")
    service.store.write_bytes(where, data)
    return str(where)


@pytest.fixture
def stored(service: Service) -> str:
    """Uploads a valid manifest that no record links."""
    return store(service, GOOD_MANIFESTS["JSON"])


def test_defaults(api: httpx.Client) -> None:
    """POST with a name creates a record with the fields of the contract; GET and the list return it."""
    image = make(api)
    assert_new(image, ("name", *DEFAULTS))
    assert {**image, **DEFAULTS, "name": "compute"} == image
    assert get(api, image) == image
    listed = api.get(IMAGES)
    assert listed.status_code == 200
    assert listed.json().count(image) == 1


def test_every_field(api: httpx.Client, tasks: httpx.Client, stored: str) -> None:
    """All fields that the service gives are stored."""
    given = {
        "name": "größer / ein Abbild",
        "link": linked(stored, "0123456789abcdef0123456789abcdef"),
        "arch": "aarch64",
        "metadata": {"owner": "ada", "": "", "key": "k"},
        "job_id": str(uuid4()),
        "source_image_id": str(uuid4()),
        "changes": {name: {"count": 21, "first": ["/etc/motd"]} for name in Changes.model_fields},
        "source_recipe_id": str(uuid4()),
        "checked": "2026-11-01T01:00:00Z",
        "pinned": True,
        "kernels": ["6.1.0-40-amd64"],
        "package_count": 165,
        "size": 20 * 2**30,
        "customization_digest": "0" * 64,
        "nightly": True,
        "nightly_failures": 1,
        "scrubbed": "2026-11-01T02:00:00Z",
        "damage": "s3://boot-images/1/rootfs does not exist in S3",
    }
    image = make(tasks, **given)
    assert_new(image, given)
    assert get(api, image) == {**given, "id": image["id"], "created": image["created"]}
    assert patch(api, image, nightly=False).json()["nightly"] is False  # nights of other tests leave it out
    assert image["id"] in [found["id"] for found in api.get(IMAGES, params={"damaged": True}).json()]
    assert patch(api, image, damage="").status_code == 403
    assert patch(tasks, image, damage="").json()["damage"] is None
    assert image["id"] not in [found["id"] for found in api.get(IMAGES, params={"damaged": True}).json()]


def test_metadata_of_the_cli(api: httpx.Client) -> None:
    """`cray ims` sends one entry as {key, value}."""
    assert make(api, metadata={"key": "owner", "value": "ada"})["metadata"] == {"owner": "ada"}


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_bad_fields(api: httpx.Client, tasks: httpx.Client, name: str) -> None:
    """The answer names unknown, missing and invalid fields, and no record is created."""
    before = api.get(IMAGES).json()
    case = BAD_FIELDS[name]
    assert_problem(tasks.post(IMAGES, json=case.sent), case.status, *case.fields)
    assert api.get(IMAGES).json() == before


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_body(api: httpx.Client, tasks: httpx.Client, name: str) -> None:
    """All methods refuse a body that is not a JSON object."""
    assert_bad_body(api, "POST", IMAGES, BAD_BODIES[name])
    assert_bad_body(api, "PATCH", f"{IMAGES}/{make(api)['id']}", BAD_BODIES[name])
    assert_bad_body(tasks, "PUT", f"{IMAGES}/{uuid4()}", BAD_BODIES[name])


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("identity", UNKNOWN_IDS)
def test_unknown_id(api: httpx.Client, method: str, identity: str) -> None:
    """Unknown ids answer 404 with a problem."""
    assert_problem(api.request(method, f"{IMAGES}/{identity}", json=CHANGE.get(method)), 404)


@pytest.mark.parametrize(("method", "path"), [("PUT", ""), ("PATCH", ""), ("POST", f"/{NOBODY}")])
def test_no_such_method(api: httpx.Client, method: str, path: str) -> None:
    """Other methods answer 405 with a problem."""
    assert_problem(api.request(method, IMAGES + path, json={"name": "x"}), 405)


@pytest.mark.parametrize("name", GOOD_MANIFESTS)
def test_manifest(api: httpx.Client, service: Service, name: str) -> None:
    """Manifests may be JSON or YAML under any name; the link may come with POST or later."""
    for file in ("manifest.json", "manifest.yaml", "anything"):
        path = store(service, GOOD_MANIFESTS[name], file)
        assert make(api, link={"path": path})["link"] == linked(path)
    image, path = make(api), store(service, GOOD_MANIFESTS[name])
    assert patch(api, image, link={"path": path}).json() == {**image, "link": linked(path)}


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_bad_manifest(api: httpx.Client, tasks: httpx.Client, service: Service, name: str) -> None:
    """POST, PATCH and PUT refuse a manifest that no node can boot from, and no record is created."""
    data, status = BAD_MANIFESTS[name]
    link = {"path": store(service, data)}
    image, before = make(api), api.get(IMAGES).json()
    assert_problem(api.post(IMAGES, json={"name": "x", "link": link}), status, "link")
    assert_problem(patch(api, image, link=link), status, "link")
    assert_problem(tasks.put(f"{IMAGES}/{uuid4()}", json={"name": "x", "link": link}), status, "link")
    assert api.get(IMAGES).json() == before


def test_link_with_another_etag(api: httpx.Client, service: Service, stored: str) -> None:
    """A different etag is only a warning in the log; the record has the given one."""
    assert service.store.stat(ObjectName.parse(stored)).etag != "different"
    assert make(api, link={"path": stored, "etag": "different"})["link"] == linked(stored, "different")


def test_link_is_set_once(api: httpx.Client, service: Service, stored: str) -> None:
    """PATCH sets a link and accepts the same link again; another link is a conflict, and no field changes."""
    image = make(api)
    for _time in range(2):
        answer = patch(api, image, link={"path": stored, "type": "s3"})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {**image, "link": linked(stored)}
    another = store(service, GOOD_MANIFESTS["JSON"])
    assert_problem(patch(api, image, link={"path": another}, arch="aarch64"), 409)
    assert get(api, image) == {**image, "link": linked(stored)}


def test_link_is_unique(api: httpx.Client, tasks: httpx.Client, stored: str) -> None:
    """No two images can link the same manifest, unless the first one is deleted."""
    first, second = make(api, link={"path": stored}), make(api)
    assert_problem(api.post(IMAGES, json={"name": "x", "link": {"path": stored}}), 422, "link")
    assert_problem(patch(api, second, link={"path": stored}), 422, "link")
    assert_problem(tasks.put(f"{IMAGES}/{uuid4()}", json={"name": "x", "link": {"path": stored}}), 422, "link")
    assert get(api, second) == second
    assert_deleted(api.delete(f"{IMAGES}/{first['id']}"))
    assert patch(api, second, link={"path": stored}).status_code == 200


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "name": ({"name": "another"}, {"name": "another"}),
    "arch": ({"arch": "aarch64"}, {"arch": "aarch64"}),
    "pinned": ({"pinned": True}, {"pinned": True}),
    "not nightly": ({"nightly": False}, {"nightly": False}),
    "checked": ({"checked": "2026-11-01T02:00:00+01:00"}, {"checked": "2026-11-01T01:00:00Z"}),
    "set": ({"metadata": {"operation": "set", "key": "b", "value": "2"}}, {"metadata": {"a": "1", "b": "2"}}),
    "set again": ({"metadata": {"operation": "set", "key": "a", "value": "2"}}, {"metadata": {"a": "2"}}),
    "set nothing": ({"metadata": {"operation": "set", "key": "a", "value": ""}}, {"metadata": {"a": ""}}),
    "remove": ({"metadata": {"operation": "remove", "key": "a"}}, {"metadata": {}}),
    "remove, as the CLI does": (
        {"metadata": {"operation": "remove", "key": "a", "value": "1"}},
        {"metadata": {}},
    ),
    "remove what is not there": ({"metadata": {"operation": "remove", "key": "b"}}, {"metadata": {"a": "1"}}),
    "both": (
        {"arch": "aarch64", "metadata": {"operation": "remove", "key": "a"}},
        {"arch": "aarch64", "metadata": {}},
    ),
}

BAD_CHANGES = {
    "name empty": Refused({"name": ""}, 422, ("name",)),
    "name null": Refused({"name": None}, 422, ("name",)),
    "job_id": Refused({"job_id": str(uuid4())}, 422, ("job_id",)),
    "unknown beside a good one": Refused({"arch": "aarch64", "colour": "red"}, 422, ("colour",)),
    "arch": Refused({"arch": "riscv64"}, 422, ("arch",)),
    "arch null": Refused({"arch": None}, 422, ("arch",)),
    "link null": Refused({"link": None}, 422, ("link",)),
    "metadata null": Refused({"metadata": None}, 422, ("metadata",)),
    "metadata mapping": Refused({"metadata": {"b": "2"}}, 422, ("metadata.operation", "metadata.key", "metadata.b")),
    "operation": Refused({"metadata": {"operation": "add", "key": "b", "value": "2"}}, 422, ("metadata.operation",)),
    "no key": Refused({"metadata": {"operation": "set", "value": "2"}}, 422, ("metadata.key",)),
    "value null": Refused({"metadata": {"operation": "set", "key": "b", "value": None}}, 422, ("metadata.value",)),
    "metadata with more": Refused(
        {"metadata": {"operation": "remove", "key": "a", "all": True}}, 422, ("metadata.all",)
    ),
    "nightly": Refused({"nightly": True}, 422, ("nightly",)),
    "good change, bad link": Refused({"arch": "aarch64", "link": {"path": MISSING}}, 422, ("link",)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_change(api: httpx.Client, tasks: httpx.Client, name: str) -> None:
    """PATCH changes the given fields and returns the record."""
    image = make(api, metadata={"a": "1"})
    sent, changed = CHANGES[name]
    answer = patch(tasks if "checked" in sent else api, image, **sent)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {**image, **changed}
    assert get(api, image) == answer.json()


@pytest.mark.parametrize("name", BAD_CHANGES)
def test_bad_change(api: httpx.Client, name: str) -> None:
    """The answer names fields that cannot be changed, and no field changes."""
    image = make(api, metadata={"a": "1"})
    case = BAD_CHANGES[name]
    assert_problem(patch(api, image, **case.sent), case.status, *case.fields)
    assert get(api, image) == image


def test_put(api: httpx.Client, tasks: httpx.Client, stored: str) -> None:
    """PUT registers an image with the given id; repeating it changes nothing."""
    identity = str(uuid4())
    body = {"name": "compute", "link": linked(stored), "arch": "aarch64", "metadata": {"a": "1"}, "job_id": identity}
    first = tasks.put(f"{IMAGES}/{identity}", json=body)
    assert first.is_success, first.text
    image = first.json()
    assert_new(image, ("name", *DEFAULTS))
    assert {**image, **body, "id": identity} == image
    again = tasks.put(f"{IMAGES}/{identity}", json=body)
    assert again.status_code == 200
    assert again.json() == image == get(api, image)
    assert [item["id"] for item in api.get(IMAGES).json()].count(identity) == 1


@pytest.mark.parametrize("field", ["name", "link", "arch", "job_id"])
def test_put_another(api: httpx.Client, tasks: httpx.Client, service: Service, stored: str, field: str) -> None:
    """PUT of another image with an existing id is a conflict and changes nothing."""
    identity = str(uuid4())
    body = {"name": "compute", "link": {"path": stored}, "arch": "x86_64", "job_id": str(uuid4())}
    image = tasks.put(f"{IMAGES}/{identity}", json=body).json()
    other = {
        "name": "another",
        "link": {"path": store(service, GOOD_MANIFESTS["JSON"])},
        "arch": "aarch64",
        "job_id": str(uuid4()),
    }
    answer = tasks.put(f"{IMAGES}/{identity}", json={**body, field: other[field]})
    assert_problem(answer, 409)
    assert identity in answer.json()["detail"]
    assert get(api, image) == image


def test_put_at_the_same_moment(api: httpx.Client, tasks: httpx.Client, stored: str) -> None:
    """If the same PUT arrives many times at once, one record is created and all answers have it."""
    path, body = f"{IMAGES}/{uuid4()}", {"name": "compute", "link": {"path": stored}}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _number: tasks.put(path, json=body), range(8)))
    image = api.get(path).json()
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert answer.json() == image


def test_no_change_is_lost(api: httpx.Client) -> None:
    """If many requests change different entries of one image at once, all changes are stored."""
    image = make(api)
    entries = {f"key-{number}": str(number) for number in range(40)}

    def set_entry(entry: tuple[str, str]) -> int:
        change = {"operation": "set", "key": entry[0], "value": entry[1]}
        return patch(api, image, metadata=change).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(set_entry, entries.items())) == {200}
    assert get(api, image)["metadata"] == entries


def test_put_deleted(api: httpx.Client, tasks: httpx.Client, stored: str) -> None:
    """The id of a deleted image cannot be used again."""
    identity = str(uuid4())
    for link in (None, {"path": stored}):
        assert tasks.put(f"{IMAGES}/{identity}", json={"name": "first"}).status_code in (200, 201, 409)
        api.delete(f"{IMAGES}/{identity}")
        assert_problem(tasks.put(f"{IMAGES}/{identity}", json={"name": "second", "link": link}), 409)
    assert_problem(api.get(f"{IMAGES}/{identity}"), 404)


@pytest.mark.parametrize("identity", ["zzz", NOBODY.upper(), NOBODY.replace("-", "")])
def test_put_bad_id(tasks: httpx.Client, identity: str) -> None:
    """An id must be a UUID in the usual notation."""
    assert_problem(tasks.put(f"{IMAGES}/{identity}", json={"name": "x"}), 422, "id")


def test_put_bad_fields(api: httpx.Client, tasks: httpx.Client) -> None:
    """PUT accepts the same fields as POST."""
    identity = str(uuid4())
    assert_problem(tasks.put(f"{IMAGES}/{identity}", json={"name": "x", "colour": "red"}), 422, "colour")
    assert_problem(api.get(f"{IMAGES}/{identity}"), 404)


def test_delete(api: httpx.Client, service: Service, stored: str) -> None:
    """DELETE deletes one record and no other; its objects stay."""
    one, other = make(api, link={"path": stored}), make(api)
    assert_deleted(api.delete(f"{IMAGES}/{one['id']}"))
    for method in ("GET", "PATCH", "DELETE"):
        assert_problem(api.request(method, f"{IMAGES}/{one['id']}", json=CHANGE.get(method)), 404)
    listed = api.get(IMAGES).json()
    assert one["id"] not in {item["id"] for item in listed}
    assert other in listed
    assert service.store.stat(ObjectName.parse(stored)).size == len(GOOD_MANIFESTS["JSON"])


def test_delete_all(api: httpx.Client) -> None:
    """DELETE of the collection deletes all records."""
    image = make(api)
    assert_deleted(api.delete(IMAGES))
    assert api.get(IMAGES).json() == []
    assert_problem(api.get(f"{IMAGES}/{image['id']}"), 404)
