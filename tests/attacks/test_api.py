"""Attacks on the API by users and viewers: forged fields, foreign addresses, markup, writing without permission."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from ims.api.catalog import contents
from ims.api.retention import maintenance, usage
from ims.api.runs.airflow import AirflowApi
from ims.api.runs.runs import Run
from ims.storage.manifest import ROOTFS
from tests.api.offline import TASKS, Offline, application, offline_api
from tests.api.test_owners import SHELL
from tests.api.wire import assert_problem

RECIPE = {"name": "recipe", "recipe_type": "kiwi-ng", "linux_distribution": "debian12"}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[Offline]:
    """The API without Airflow."""
    with offline_api(monkeypatch) as api:
        yield api


def refuse(offline: Offline, user: str, method: str, path: str, body: Any, status: int, *fields: str) -> None:
    """The request is refused with these fields, and nothing has changed."""
    before = offline.everything()
    assert_problem(offline.request(user, method, path, body), status, *fields)
    assert offline.everything() == before


FORGED: dict[str, Any] = {
    "job_id": str(uuid4()),
    "source_image_id": str(uuid4()),
    "source_recipe_id": str(uuid4()),
    "changes": {},
    "checked": "9999-12-31T23:59:59Z",
    "kernels": ["6.1"],
    "package_count": 1,
    "size": 1,
}


@pytest.mark.parametrize("user", ["user", "admin"])
@pytest.mark.parametrize("field", FORGED)
def test_forged_field_of_an_image(offline: Offline, field: str, user: str) -> None:
    """Where an image comes from and what was found in it, no user can claim."""
    refuse(offline, user, "POST", "/v3/images", {"name": "x", field: FORGED[field]}, 403, field)
    refuse(offline, user, "POST", "/images", {"name": "x", field: "garbage"}, 403, field)


def test_forged_check_of_an_image(offline: Offline) -> None:
    """A user cannot push images out of retention by a check in the future."""
    image = offline.request("user", "POST", "/v3/images", {"name": "x"}).json()
    refuse(offline, "user", "PATCH", f"/v3/images/{image['id']}", {"checked": FORGED["checked"]}, 403, "checked")
    refuse(offline, "user", "PATCH", f"/v2/images/{image['id']}", {"checked": "garbage"}, 403, "checked")


def test_forged_result_of_a_job(offline: Offline) -> None:
    """No image of a user becomes the result of a job."""
    job = str(uuid4())
    refuse(offline, "user", "POST", "/v3/images", {"name": "x", "job_id": job}, 403, "job_id")
    refuse(offline, "user", "PUT", f"/v3/images/{uuid4()}", {"name": "x", "job_id": job}, 403, "job_id")
    image = offline.request("user", "POST", "/v3/images", {"name": "x"}).json()
    refuse(offline, "user", "PATCH", f"/v3/images/{image['id']}", {"job_id": job}, 422, "job_id")
    assert offline.records.images_of_jobs([job]) == {}


def test_taking_the_id_of_a_future_image(offline: Offline) -> None:
    """A user who reads the id of an image in progress cannot register another image under it."""
    refuse(offline, "user", "PUT", f"/v3/images/{uuid4()}", {"name": "x"}, 403, "id")


def test_forged_failures_of_a_recipe(offline: Offline) -> None:
    """A user can neither pause a recipe of others nor hide that it fails."""
    refuse(offline, "user", "POST", "/v3/recipes", {**RECIPE, "nightly_failures": 3}, 403, "nightly_failures")
    recipe = offline.request("user", "POST", "/v3/recipes", RECIPE).json()
    path = f"/v3/recipes/{recipe['id']}"
    refuse(offline, "user", "PATCH", path, {"nightly_failures": 1000}, 403, "nightly_failures")


@pytest.mark.parametrize("user", ["user", "admin"])
def test_forged_shell(offline: Offline, user: str) -> None:
    """A user cannot lead others to a machine of his own, neither for a new shell nor for an open one."""
    path = f"/v3/jobs/{SHELL['dag_run_id']}/shell"
    refuse(offline, user, "PUT", path, SHELL, 403, *SHELL)
    assert offline.request(TASKS, "PUT", path, SHELL).status_code == 200
    refuse(offline, user, "PUT", path, {**SHELL, "host": "192.0.2.66"}, 403, *SHELL)
    refuse(offline, user, "DELETE", path, None, 403, "closed")


def test_script_as_the_address_of_a_run(offline: Offline) -> None:
    """Not even the service can set the address of a run."""
    path = f"/v3/jobs/{SHELL['dag_run_id']}/shell"
    refuse(offline, TASKS, "PUT", path, {**SHELL, "run_url": "javascript:alert(1)"}, 422, "run_url")


ELSEWHERE = ("s3://secrets/key.tar.gz", "s3://ims-backup/key.tar.gz", "s3://boot-images.evil/key.tar.gz")


@pytest.mark.parametrize("address", ELSEWHERE)
@pytest.mark.parametrize("kind", ["recipes", "images"])
def test_link_to_a_foreign_bucket(offline: Offline, kind: str, address: str) -> None:
    """The keys of the service may read more buckets than users may: links name only two, and S3 is not asked."""
    offline.store.put(address)
    required = RECIPE if kind == "recipes" else {"name": "x"}
    record = offline.request("user", "POST", f"/v3/{kind}", required).json()
    offline.store.asked.clear()
    link = {"link": {"path": address}}
    refuse(offline, "user", "POST", f"/v3/{kind}", {**required, **link}, 422, "link")
    refuse(offline, "user", "PATCH", f"/v3/{kind}/{record['id']}", link, 422, "link")
    assert not offline.store.asked


@pytest.mark.parametrize("address", ELSEWHERE)
def test_artifact_in_a_foreign_bucket(offline: Offline, address: str) -> None:
    """A manifest cannot name objects of other buckets, which purging the image would delete."""
    manifest = offline.store.put_image(offline.store.put(address))
    offline.store.asked.clear()
    refuse(offline, "user", "POST", "/v3/images", {"name": "x", "link": {"path": manifest}}, 422, "link")
    assert address not in offline.store.asked


def test_manifest_that_changes_after_it_was_checked(offline: Offline) -> None:
    """A manifest that a user overwrites later does not lead to other buckets, either."""
    manifest = offline.store.put_image()
    image = offline.request("user", "POST", "/v3/images", {"name": "x", "link": {"path": manifest}}).json()
    secret = offline.store.put("s3://secrets/key")
    offline.store.put(manifest, offline.store.content[offline.store.put_image(secret)])
    offline.store.asked.clear()
    answer = offline.request("user", "GET", f"/v3/images/{image['id']}/diff/{image['id']}")
    assert answer.status_code == 422
    assert secret not in offline.store.asked


def test_many_comparisons(offline: Offline) -> None:
    """A viewer who compares images again and again leaves threads for other requests."""
    image = offline.request("user", "POST", "/v3/images", {"name": "x"}).json()
    path = f"/v3/images/{image['id']}/diff/{image['id']}"
    assert offline.request("viewer", "GET", path).status_code == 200
    with ExitStack() as running:
        for _ in range(4):
            running.enter_context(contents.COMPARISONS)
        refuse(offline, "viewer", "GET", path, None, 503)
    assert offline.request("viewer", "GET", path).status_code == 200


def test_endless_metadata(offline: Offline) -> None:
    """Many small changes cannot fill the database."""
    image = offline.request("user", "POST", "/v3/images", {"name": "x", "metadata": {"a": "1" * 200_000}}).json()
    path = f"/v3/images/{image['id']}"
    change = {"metadata": {"operation": "set", "key": "b", "value": "1" * 100_000}}
    refuse(offline, "user", "PATCH", path, change, 422, "metadata")
    many = {f"key-{number}": "" for number in range(1001)}
    refuse(offline, "user", "POST", "/v3/images", {"name": "x", "metadata": many}, 422, "metadata")
    full = offline.request("user", "POST", "/v3/images", {"name": "x", "metadata": dict(list(many.items())[:1000])})
    more = {"metadata": {"operation": "set", "key": "one-more", "value": ""}}
    refuse(offline, "user", "PATCH", f"/v3/images/{full.json()['id']}", more, 422, "metadata")
    again = {"metadata": {"operation": "set", "key": "key-1", "value": "new"}}
    assert offline.request("user", "PATCH", f"/v3/images/{full.json()['id']}", again).status_code == 200


LONG = "x" * 256


def variables(*items: dict[str, str]) -> dict[str, Any]:
    """A recipe with these variables."""
    return {**RECIPE, "template_dictionary": list(items)}


TOO_LONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "image": ("images", {"name": LONG * 4 + "x"}, "name"),
    "image of many bytes": ("images", {"name": "\U0001f5bc" * 513}, "name"),
    "recipe": ("recipes", {**RECIPE, "name": LONG}, "name"),
    "key": ("public-keys", {"name": LONG, "public_key": "x"}, "name"),
    "job": ("jobs", {"job_type": "create", "image_root_archive_name": LONG * 5}, "image_root_archive_name"),
    "kernel": ("jobs", {"job_type": "create", "kernel_file_name": LONG}, "kernel_file_name"),
    "link": ("images", {"name": "x", "link": {"path": f"s3://ims/{LONG * 4}"}}, "link.path"),
    "variable": ("recipes", variables({"key": LONG, "value": ""}), "template_dictionary.0.key"),
    "variables": ("recipes", variables(*[{"key": "a", "value": ""}] * 1001), "template_dictionary"),
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_long_name(offline: Offline, name: str) -> None:
    """Names and lists have limits."""
    kind, body, field = TOO_LONG[name]
    before = offline.everything()
    with airflow_is_never_asked():
        answer = offline.request("user", "POST", f"/v3/{kind}", body)
    assert answer.status_code == 422
    assert field in answer.json()["errors"]
    assert offline.everything() == before


@contextmanager
def airflow_is_never_asked() -> Iterator[None]:
    """The API refuses the request before it starts anything."""
    overrides: dict[Any, Any] = application().dependency_overrides
    overrides[AirflowApi] = lambda: None
    try:
        yield
    finally:
        del overrides[AirflowApi]


def test_large_body(offline: Offline) -> None:
    """A body has at most a MiB."""
    refuse(offline, "user", "POST", "/v3/images", {"name": "x", "metadata": {"a": "1" * 1024 * 1024}}, 413)


FILTERS = {
    "metadata": "metadata=a%3Db&" * 21,
    "name": f"name={LONG * 5}",
    "package_below": f"package=x&package_below={LONG}",
    "after": f"after={LONG * 5}",
    "arch": f"arch={LONG}",
}


@pytest.mark.parametrize("field", FILTERS)
def test_huge_filter(offline: Offline, field: str) -> None:
    """Filters of lists have limits."""
    refuse(offline, "viewer", "GET", f"/v3/images?{FILTERS[field]}", None, 422, field)


def artifact(**fields: Any) -> dict[str, Any]:
    """An entry of a manifest."""
    return {"type": ROOTFS, "link": {"path": "s3://boot-images/x/rootfs"}, **fields}


BILLION = b"".join(
    [b'version: "1.0"\nl0: &l0 [x]\n']
    + [b"l%d: &l%d [%s]\n" % (n, n, b",".join([b"*l%d" % (n - 1)] * 10)) for n in range(1, 10)]
)
BOMBS: dict[str, bytes] = {
    "many artifacts": json.dumps({"version": "1.0", "artifacts": [artifact()] * 101}).encode(),
    "long type": json.dumps({"version": "1.0", "artifacts": [artifact(type="x" * 2000)]}).encode(),
    "long address": json.dumps(
        {"version": "1.0", "artifacts": [artifact(link={"path": f"s3://boot-images/{'x' * 2000}"})]}
    ).encode(),
    "null character": json.dumps({"version": "1.0", "artifacts": [artifact(md5="\0")]}).encode(),
    "billion laughs as a time": BILLION + b"created: *l9\nartifacts: []\n",
    "billion laughs as artifacts": BILLION + b"artifacts: *l9\n",
    "billion laughs as a type": BILLION + b"artifacts: [{type: *l9, link: {path: x}}]\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_manifest_bomb(offline: Offline, name: str) -> None:
    """A manifest of a few bytes fills neither the memory nor the database."""
    manifest = offline.store.put("s3://boot-images/bomb/manifest.yaml", BOMBS[name])
    offline.store.put("s3://boot-images/x/rootfs")
    refuse(offline, "user", "POST", "/v3/images", {"name": "x", "link": {"path": manifest}}, 422, "link")


def test_clean_up_by_somebody_who_sees_no_jobs(offline: Offline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clean-up of a user who may not read customize_image spares the uploads and the inputs of its jobs."""
    image = offline.request("user", "POST", "/v3/images", {"name": "in use"}).json()
    job = Run(
        dag_id="customize_image",
        run_id=str(uuid4()),
        state="running",
        created=datetime.now(UTC),
        started=None,
        ended=None,
        conf={"artifact_id": image["id"]},
        note=None,
    )
    new_image = str(uuid4())
    monkeypatch.setattr(maintenance, "unfinished_runs", lambda: [job])
    monkeypatch.setattr(usage, "unfinished_runs", lambda: [job])
    monkeypatch.setattr(maintenance, "images_in_progress", lambda runs: {new_image} if runs == [job] else set())
    kept = offline.store.put(f"s3://boot-images/{new_image}/rootfs")
    orphan = offline.store.put(f"s3://boot-images/{uuid4()}/rootfs")
    with airflow_is_never_asked():
        answer = offline.request("user", "POST", "/v3/maintenance", {"dry_run": False, "orphan_hours": 0})
        running = offline.request("user", "GET", "/v3/maintenance").json()
        refuse(offline, "user", "DELETE", f"/v2/images/{image['id']}", None, 409)
    assert answer.status_code == 200, answer.text
    assert kept in offline.store.content
    assert orphan not in offline.store.content
    assert running == {"jobs": [job.job_id], "workspaces": [f"{job.job_id}-customize-image"]}
