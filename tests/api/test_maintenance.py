"""`/maintenance` over HTTP, on real objects in S3."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from ims.api.retention.usage import used_by
from ims.api.runs.runs import Run
from ims.records.database import Database
from ims.records.models import Image, Recipe
from tests.api.records import IMAGES_BUCKET, RECIPES_BUCKET, make, put, store_archive, store_image
from tests.api.test_deleted import deleted, exists
from tests.api.wire import V2, V3, assert_deleted, assert_problem
from tests.flows.conftest import RECIPES
from tests.service import ENDED, Service

PATH = f"{V3}/maintenance"


@pytest.fixture
def database(service: Service) -> Iterator[Database]:
    """The database of the service, to change the age of records."""
    opened = Database(service.settings.records_url)
    yield opened
    opened.engine.dispose()


def clean_up(api: httpx.Client, **fields: Any) -> dict[str, list[str]]:
    """Runs the clean-up, by default on orphans of any age; returns what was removed, by kind."""
    answer = api.post(PATH, json={"dry_run": False, "orphan_hours": 0, **fields})
    assert answer.status_code == 200, answer.text
    assert answer.json()["dry_run"] is fields.get("dry_run", False)
    found = answer.json()["freed"]
    assert all(set(item) == {"kind", "count", "bytes", "items"} for item in found)
    return {item["kind"]: item["items"] for item in found}


def begin_upload(service: Service, key: str) -> str:
    """Begins an upload that is never completed; returns its id."""
    client = service.store._client
    upload = client.create_multipart_upload(Bucket=IMAGES_BUCKET, Key=key)["UploadId"]
    client.upload_part(Bucket=IMAGES_BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=b"x" * 100)
    return upload


def uploads(service: Service) -> set[str]:
    """The ids of the unfinished uploads."""
    return {item.id for item in service.store.uploads(IMAGES_BUCKET)}


def test_orphans(api: httpx.Client, service: Service) -> None:
    """Orphaned objects and unfinished uploads go. A dry run lists the same items and removes nothing."""
    folder = f"s3://{IMAGES_BUCKET}/{uuid4()}"
    orphans = {put(service, f"{folder}/rootfs"), put(service, f"{folder}/manifest.yaml"), store_archive(service)}
    upload = begin_upload(service, f"{uuid4()}/rootfs")
    fresh = clean_up(api, orphan_hours=24)
    assert not orphans & set(fresh.get("objects", []))
    assert upload in uploads(service)
    answer = api.post(PATH, json={"dry_run": True, "orphan_hours": 0}).json()
    would = {item["kind"]: item for item in answer["freed"]}
    assert orphans <= set(would["objects"]["items"])
    assert would["objects"]["bytes"] >= 3 * len(b"data")
    assert would["uploads"]["bytes"] >= 100
    assert all(exists(service, path) for path in orphans)
    removed = clean_up(api)
    assert {kind: item["items"] for kind, item in would.items()} == removed
    assert not any(exists(service, path) for path in orphans)
    assert upload not in uploads(service)
    assert not {"objects", "uploads"} & set(clean_up(api))


def test_objects_that_are_no_orphans(api: httpx.Client, service: Service) -> None:
    """Objects that a record or tombstone needs, others in such a folder, and objects outside of record folders."""
    image, recipe = store_image(service), store_archive(service)
    make(api, "images", link={"path": image[0]})
    deleted(api, "recipes", link={"path": recipe})
    unlinked = make(api, "images")
    kept = {
        *image,
        recipe,
        put(service, image[0].replace("manifest.yaml", "notes")),
        put(service, f"s3://{IMAGES_BUCKET}/{unlinked['id']}/rootfs"),
        put(service, f"s3://{RECIPES_BUCKET}/playbooks/{uuid4()}/site.tar.gz"),
        put(service, f"s3://{IMAGES_BUCKET}/mine"),
    }
    assert not kept & set(clean_up(api).get("objects", []))
    assert all(exists(service, path) for path in kept)


def test_objects_of_a_purge_without_cascade(api: httpx.Client, service: Service) -> None:
    """Objects that a purge left on purpose are no orphans."""
    image = store_image(service)
    record = make(api, "images", link={"path": image[0]})
    assert_deleted(api.delete(f"{V2}/images/{record['id']}", params={"cascade": "false"}))
    clean_up(api)
    assert all(exists(service, path) for path in image)


def test_tombstones(api: httpx.Client, tasks: httpx.Client, service: Service, database: Database) -> None:
    """Tombstones are purged with their objects when they are old enough, unless an image needs the recipe."""
    images = [store_image(service) for _number in range(2)]
    old, young = (deleted(api, "images", link={"path": image[0]}) for image in images)
    source, other = (deleted(api, "recipes", link={"path": store_archive(service)}) for _number in range(2))
    built = make(tasks, "images", source_recipe_id=source["id"])
    with database.session() as session:
        long_ago = datetime.now(UTC) - timedelta(days=8)
        for kind, record in ((Image, old), (Recipe, source), (Recipe, other)):
            session.get_one(kind, record["id"]).deleted = long_ago
    would = clean_up(api, dry_run=True)
    assert old["id"] in would["deleted images"]
    assert api.get(f"{V3}/deleted/images/{old['id']}").status_code == 200
    removed = clean_up(api, orphan_hours=24)
    assert old["id"] in removed["deleted images"]
    assert other["id"] in removed["deleted recipes"]
    assert_problem(api.get(f"{V3}/deleted/images/{old['id']}"), 404)
    assert [exists(service, path) for image in images for path in image] == [False, False, True, True]
    assert not exists(service, other["link"]["path"])
    assert api.get(f"{V3}/deleted/images/{young['id']}").status_code == 200
    assert exists(service, source["link"]["path"])
    assert built["id"] not in str(removed)


def test_running_job(api: httpx.Client, service: Service) -> None:
    """The uploads of a running job stay; when it has ended without an image, they are orphans."""
    recipe = service.push(RECIPES / "zypper", "sles15", REPOSITORY="http://127.0.0.1:9")  # nothing listens there
    job = service.create(recipe["id"])
    service.wait(job["id"], until=("waiting_for_repos", *ENDED))
    opened = f"/api/v2/dags/create_image/dagRuns/{job['dag_run_id']}/taskInstances/open_workspace"
    image_id = api.get(f"{opened}/xcomEntries/image_id").json()["value"]
    path = put(service, f"s3://{IMAGES_BUCKET}/{image_id}/rootfs")
    upload = begin_upload(service, f"{image_id}/initrd")
    assert job["id"] in api.get(PATH).json()["jobs"]
    clean_up(api)
    assert exists(service, path)
    assert upload in uploads(service)
    api.patch(f"{V3}/jobs/{job['id']}", json={"status": "error"})
    service.wait(job["id"])
    assert job["id"] not in api.get(PATH).json()["jobs"]
    put(service, path)
    assert path in clean_up(api)["objects"]
    assert not exists(service, path)


def described(run_id: str, conf: dict[str, Any]) -> Run:
    """A run that waits."""
    times = {"created": datetime.now(UTC), "started": None, "ended": None}
    return Run(dag_id="customize_image", run_id=run_id, state="queued", conf=conf, note=None, **times)


def test_used_by() -> None:
    """Jobs use records and a playbook; a run may also have no configuration."""
    conf = {"artifact_id": "a", "public_key_id": "k", "playbook": "s3://ims/recipes/x", "script": None}
    run = str(uuid4())
    assert used_by([described(run, conf), described("manual", {})]) == {
        "a": run,
        "k": run,
        "s3://ims/recipes/x": run,
    }


def test_permission(api: httpx.Client, service: Service, viewer: httpx.Client) -> None:
    """The clean-up needs the permission to delete, which the user of the tasks has."""
    assert_problem(viewer.post(PATH, json={"dry_run": True}), 403)
    assert service.task_client().create("maintenance", dry_run=True)["dry_run"] is True


@pytest.mark.parametrize("body", [{"colour": "red"}, {"dry_run": True, "orphan_hours": -1}, {"dry_run": None}])
def test_invalid_body(api: httpx.Client, body: dict[str, Any]) -> None:
    """Unknown fields and invalid values are refused."""
    assert_problem(api.post(PATH, json=body), 422, *(api.post(PATH, json=body).json()["errors"]))
