"""Filters and pages of lists of records."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import delete, insert

from ims.api.catalog.listing import CHUNK
from ims.records.database import Database
from ims.records.models import Image
from tests.api.records import REQUIRED, make
from tests.api.wire import UNVERSIONED, V2, V3, Refused, assert_deleted, assert_problem
from tests.service import Service

KINDS = tuple(REQUIRED)
ROOTS = (V3, V2, UNVERSIONED)
LABELS = {"owner": "ada", "": "", 'a"b': "c", "a=b": "d", "größe": "=x=", "$.x": "y"}


def ids(api: httpx.Client, path: str, **query: Any) -> list[str]:
    """Returns the ids of the records in a list, in order."""
    answer = api.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return [record["id"] for record in answer.json()]


def walk(api: httpx.Client, path: str, **query: Any) -> list[str]:
    """Returns the ids of the records on all pages, in order."""
    answer, found = api.get(path, params=query), []
    while True:
        assert answer.status_code == 200, answer.text
        assert len(answer.json()) <= query["limit"]
        found += [record["id"] for record in answer.json()]
        if "next" not in answer.links:
            return found
        answer = api.get(answer.links["next"]["url"])


@pytest.mark.parametrize("kind", KINDS)
def test_by_name(api: httpx.Client, kind: str) -> None:
    """The name must match completely."""
    name = f"Größe {uuid4().hex}"
    wanted = [make(api, kind, name=name)["id"] for _number in range(2)]
    make(api, kind, name=name.lower())
    make(api, kind, name=f"{name} ")
    for root in ROOTS:
        assert ids(api, f"{root}/{kind}", name=name) == wanted
    assert ids(api, f"{V3}/{kind}", name=f"{name}%") == []


@pytest.mark.parametrize("kind", ["recipes", "images"])
def test_by_arch(api: httpx.Client, kind: str) -> None:
    """Filters by architecture and by name combine."""
    name = uuid4().hex
    one, two = (make(api, kind, name=name, arch=arch)["id"] for arch in ("x86_64", "aarch64"))
    assert ids(api, f"{V3}/{kind}", name=name, arch="x86_64") == [one]
    assert ids(api, f"{V3}/{kind}", name=name, arch="aarch64") == [two]
    listed = ids(api, f"{V3}/{kind}", arch="aarch64")
    assert two in listed
    assert one not in listed


@pytest.mark.parametrize("kind", KINDS)
def test_by_time(api: httpx.Client, kind: str) -> None:
    """Both limits are exclusive."""
    before, one, after = (make(api, kind) for _number in range(3))
    path = f"{V3}/{kind}"
    later = ids(api, path, created_after=one["created"])
    assert (before["id"] in later, one["id"] in later, after["id"] in later) == (False, False, True)
    earlier = ids(api, path, created_before=one["created"])
    assert (before["id"] in earlier, one["id"] in earlier, after["id"] in earlier) == (True, False, False)
    assert ids(api, path, created_after=before["created"], created_before=after["created"]) == [one["id"]]


@pytest.mark.parametrize("key", LABELS)
def test_by_metadata(api: httpx.Client, key: str) -> None:
    """Keys may have any characters; all given pairs must match."""
    name = uuid4().hex
    image = make(api, "images", name=name, metadata=LABELS)["id"]
    make(api, "images", name=name, metadata={"other": LABELS[key]})
    make(api, "images", name=name)
    path = f"{V3}/images"
    if "=" not in key:  # the first = ends the key
        assert ids(api, path, name=name, metadata=f"{key}={LABELS[key]}") == [image]
        assert ids(api, path, name=name, metadata=[f"{key}={LABELS[key]}", "owner=ada"]) == [image]
    assert ids(api, path, name=name, metadata=[f"{key}={LABELS[key]}", "owner=bob"]) == []
    assert ids(api, path, name=name, metadata=f"{key}={LABELS[key]}x") == []


@pytest.mark.parametrize("kind", KINDS)
def test_pages(api: httpx.Client, kind: str) -> None:
    """The pages together are the list, whatever their size. Without a limit, the list is complete, as in IMS."""
    name, path = uuid4().hex, f"{V3}/{kind}"
    made = [make(api, kind, name=name)["id"] for _number in range(5)]
    assert ids(api, path, name=name) == made
    assert "link" not in api.get(path, params={"name": name}).headers
    for limit in (1, 2, 4, 5, 6):
        assert walk(api, path, name=name, limit=limit) == made
    for identity in made:
        assert_deleted(api.delete(f"{path}/{identity}"))
    assert walk(api, f"{V3}/deleted/{kind}", name=name, limit=2) == made


def test_pages_while_records_come_and_go(api: httpx.Client) -> None:
    """If records change between two pages, no record is repeated, and none that stayed is missing."""
    name, path = uuid4().hex, f"{V2}/images"
    made = [make(api, "images", name=name)["id"] for _number in range(4)]
    first = api.get(path, params={"name": name, "limit": 2})
    assert_deleted(api.delete(f"{path}/{made[0]}"))
    assert_deleted(api.delete(f"{path}/{made[1]}"))  # where the page ended
    new = make(api, "images", name=name)["id"]
    rest = api.get(first.links["next"]["url"])
    assert [record["id"] for record in rest.json()] == made[2:]
    assert [record["id"] for record in api.get(rest.links["next"]["url"]).json()] == [new]


def test_long_list(api: httpx.Client, service: Service) -> None:
    """A long list is complete without a limit, although it is read in chunks; each record appears once."""
    name, database = uuid4().hex, Database(service.settings.records_url)
    made: list[str] = []
    for count in (CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1):
        new = [str(uuid4()) for _number in range(count - len(made))]
        with database.session() as session:
            session.execute(insert(Image), [{"id": identity, "name": name} for identity in new])
        made += new
        answer = api.get(f"{V3}/images", params={"name": name})
        assert answer.headers["content-type"] == "application/json"
        listed = answer.json()
        assert sorted(image["id"] for image in listed) == sorted(made)
        # Texts do not sort: a time without a fraction of a second is written without it.
        assert listed == sorted(listed, key=lambda image: (datetime.fromisoformat(image["created"]), image["id"]))
        assert listed[-1] == api.get(f"{V3}/images/{listed[-1]['id']}").json()
    with database.session() as session:
        session.execute(delete(Image).where(Image.name == name))
    database.engine.dispose()


BAD = {
    "limit zero": Refused({"limit": 0}, 422, ("limit",)),
    "limit negative": Refused({"limit": -1}, 422, ("limit",)),
    "limit large": Refused({"limit": 1001}, 422, ("limit",)),
    "limit word": Refused({"limit": "all"}, 422, ("limit",)),
    "after nonsense": Refused({"after": "zzz"}, 422, ("after",)),
    "after not base64": Refused({"after": "%%%ü"}, 422, ("after",)),
    "after without a time": Refused({"after": "eHh8eA"}, 422, ("after",)),
    "after NUL": Refused({"after": "\0"}, 422, ("after",)),
    "name empty": Refused({"name": ""}, 422, ("name",)),
    "name NUL": Refused({"name": "\0"}, 422, ("name",)),
    "moment": Refused({"created_after": "yesterday"}, 422, ("created_after",)),
    "time out of range": Refused({"created_before": "9999-12-31T23:59:59-23:59"}, 422, ("created_before",)),
    "unknown": Refused({"colour": "red"}, 400),
    "unknown beside a good one": Refused({"name": "x", "sort": "name"}, 400),
}
BAD_OF_IMAGES = {
    "arch": Refused({"arch": "riscv64"}, 422, ("arch",)),
    "metadata": Refused({"metadata": "owner"}, 422, ("metadata",)),
    "metadata NUL": Refused({"metadata": "a=\0"}, 422, ("metadata.0",)),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("kind", KINDS)
def test_bad(api: httpx.Client, kind: str, name: str) -> None:
    """The answer names an invalid filter, for records and tombstones."""
    for path in (f"{V3}/{kind}", f"{V3}/deleted/{kind}"):
        assert_problem(api.get(path, params=BAD[name].sent), BAD[name].status, *BAD[name].fields)


@pytest.mark.parametrize("name", BAD_OF_IMAGES)
def test_bad_of_images(api: httpx.Client, name: str) -> None:
    """The answer names an invalid filter of images."""
    case = BAD_OF_IMAGES[name]
    assert_problem(api.get(f"{V3}/images", params=case.sent), case.status, *case.fields)
    assert_problem(api.get(f"{V3}/public-keys", params=case.sent), 400)
