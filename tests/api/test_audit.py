"""`/audit`: who may read it, and who is named."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.api.offline import TASKS, Offline
from tests.api.wire import assert_problem
from tests.service import PUBLIC_KEY

AUDIT = "/v3/audit"


def log(offline: Offline, **query: Any) -> list[dict[str, Any]]:
    """The selected entries as an administrator sees them, newest first."""
    answer = offline.http.get(AUDIT, params=query, headers={"Authorization": "Bearer admin"})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def test_users_are_named(offline: Offline) -> None:
    """Each change names the user whose request made it."""
    recipe = {"name": "x", "recipe_type": "kiwi-ng", "linux_distribution": "sles15"}
    identity = offline.request("writer", "POST", "/v3/recipes", recipe).json()["id"]
    offline.request(TASKS, "PATCH", f"/v3/recipes/{identity}", {"nightly_failures": 1})
    offline.request("user", "DELETE", f"/v3/recipes/{identity}")
    assert [(entry["who"], entry["action"]) for entry in log(offline, record_id=identity)] == [
        ("user", "delete"),
        (TASKS, "change"),
        ("writer", "create"),
    ]


def test_jobs(offline: Offline) -> None:
    """A job that is created and cancelled has two entries; a repeated and a refused request have none."""
    recipe = {"name": "r", "recipe_type": "kiwi-ng", "linux_distribution": "sles15"}
    link = {"type": "s3", "path": offline.store.put(f"s3://ims/{uuid4()}/recipe.tar.gz")}
    artifact = offline.request("user", "POST", "/v3/recipes", {**recipe, "link": link}).json()["id"]
    key = offline.request("user", "POST", "/v3/public-keys", {"name": "k", "public_key": PUBLIC_KEY}).json()["id"]
    body = {"job_type": "create", "image_root_archive_name": "x", "artifact_id": artifact, "public_key_id": key}
    headers = {"Authorization": "Bearer user", "Idempotency-Key": str(uuid4())}
    job = offline.http.post("/v3/jobs", json=body, headers=headers)
    assert job.status_code == 201, job.text
    assert offline.http.post("/v3/jobs", json=body, headers=headers).json()["id"] == job.json()["id"]
    offline.request("user", "POST", "/v3/jobs", {**body, "artifact_id": str(uuid4())})
    offline.request("admin", "DELETE", f"/v3/jobs/{job.json()['id']}")
    cancelled, created = log(offline, kind="job", record_id=job.json()["id"])
    assert (cancelled["who"], cancelled["action"], cancelled["name"]) == ("admin", "cancel", "x")
    assert (created["who"], created["action"], created["after"]["artifact_id"]) == ("user", "create", artifact)


def test_pages(offline: Offline) -> None:
    """The header names the next page, which goes on where the first ended."""
    name = str(uuid4())
    for _ in range(3):
        offline.request("user", "POST", "/v3/images", {"name": name})
    first = offline.http.get(AUDIT, params={"name": name, "limit": 2}, headers={"Authorization": "Bearer admin"})
    following = first.headers["Link"].partition("<")[2].partition(">")[0]
    second = offline.request("admin", "GET", following.removeprefix("/apis/ims"))
    ids = [entry["id"] for entry in (*first.json(), *second.json())]
    assert ids == [entry["id"] for entry in log(offline, name=name)]
    assert len(ids) == 3
    assert "Link" not in second.headers


@pytest.mark.parametrize("query", ["kind=nonsense", "limit=0", "limit=1001", "since=yesterday", "after=zzz"])
def test_refused(offline: Offline, query: str) -> None:
    """The answer names the parameter."""
    assert_problem(offline.request("admin", "GET", f"{AUDIT}?{query}"), 422, query.partition("=")[0])


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nobody_changes_an_entry(offline: Offline, method: str) -> None:
    """There is no such method."""
    assert_problem(offline.request("admin", method, AUDIT, {}), 405)
