"""The workflow `image_maintenance`: a dry run lists what the next run removes."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from ims import supervisord
from ims.errors import MissingError
from ims.records.database import Database
from ims.records.models import Recipe
from ims.storage.manifest import ROOTFS, Artifact, Link, write_manifest
from ims.storage.objects import ObjectName
from tests.flows.waiting import wait_for
from tests.service import Service

RUNS = "/api/v2/dags/image_maintenance/dagRuns"
SWEEPS = ("sweep_records", "sweep_workspaces", "scrub_images")


def run(service: Service, **conf: Any) -> dict[str, str]:
    """Run the workflow; returns the states of the tasks that sweep and the results of the tasks that list."""
    answer = service.http.post(RUNS, json={"logical_date": None, "conf": conf})
    assert answer.status_code == 200, answer.text
    path = f"{RUNS}/{answer.json()['dag_run_id']}"
    wait_for(lambda: service.http.get(path).json()["state"] in ("success", "failed"), 600)
    tasks = service.http.get(f"{path}/taskInstances").json()["task_instances"]
    states = {task["task_id"]: str(task["state"]) for task in tasks}
    assert service.http.get(path).json()["state"] == "success", states
    for name in ("list_records", "list_workspaces"):
        result = service.http.get(f"{path}/taskInstances/{name}/xcomEntries/return_value").json()["value"]
        states[name] = str(result)
    return states


def upload(service: Service) -> ObjectName:
    """Upload a rootfs."""
    name = ObjectName(service.settings.images_bucket, f"{uuid4()}/rootfs")
    service.store.write_bytes(name, b"rootfs")
    return name


def image_with(service: Service, rootfs: ObjectName) -> dict[str, Any]:
    """Register an image with one file."""
    manifest = ObjectName(rootfs.bucket, rootfs.key.replace("rootfs", "manifest.yaml"))
    text = write_manifest([Artifact(type=ROOTFS, link=Link(path=str(rootfs)))])
    link = {"type": "s3", "path": str(manifest), "etag": service.store.write_bytes(manifest, text.encode())}
    return dict(service.client.create("images", name="of-maintenance", link=link))


def start_shell(service: Service) -> str:
    """Start a process with the name of a shell of a job that does not exist; returns the id of the job."""
    job = str(uuid4())
    name = f"serve_shell-{job}"
    configuration = supervisord.services_folder(service.settings) / f"{name}.conf"
    configuration.write_text(f"[program:{name}]\ncommand={sys.executable} -c 'import time; time.sleep(9999)'\n")
    supervisord.update(service.settings, name)
    return job


def test_maintenance(service: Service) -> None:
    """A dry run removes nothing; the next run purges a tombstone and sweeps the workspace and shell of ended jobs."""
    answer = service.http.post(RUNS, json={"logical_date": None, "conf": {"colour": "red"}})
    assert answer.status_code == 422, answer.text
    path = service.upload_recipe(b"garbage")
    recipe = service.register(path)["id"]
    service.client.delete(f"recipes/{recipe}")
    database = Database(service.settings.records_url)
    with database.session() as session:
        session.get_one(Recipe, recipe).deleted = datetime.now(UTC) - timedelta(days=8)
    database.engine.dispose()
    damaged, whole = image_with(service, rootfs := upload(service)), image_with(service, upload(service))
    service.store.delete(rootfs)
    workspace, shell = service.workspace(str(uuid4())), start_shell(service)
    workspace.mkdir(parents=True)
    os.utime(workspace, (time.time() - 2 * 86400,) * 2)

    states = run(service, dry_run=True)
    assert [states[name] for name in SWEEPS] == ["skipped"] * 3
    assert recipe in states["list_records"]
    assert workspace.name in states["list_workspaces"]
    assert shell in states["list_workspaces"]
    assert service.client.get(f"deleted/recipes/{recipe}")["id"] == recipe
    assert workspace.exists()
    assert supervisord.states(service.settings)[f"serve_shell-{shell}"] in ("STARTING", "RUNNING")

    assert [run(service)[name] for name in SWEEPS] == ["success"] * 3
    assert damaged["id"] in [image["id"] for image in service.client.get("images", damaged=True)]
    assert service.client.get(f"images/{damaged['id']}")["damage"] == f"{rootfs} does not exist in S3"
    service.purge("images", damaged["id"])
    assert service.client.get(f"images/{whole['id']}")["damage"] is None
    assert service.client.get(f"images/{whole['id']}")["scrubbed"] is not None
    assert service.http.get(f"/apis/ims/v3/deleted/recipes/{recipe}").status_code == 404
    assert not workspace.exists()
    assert f"serve_shell-{shell}" not in supervisord.states(service.settings)
    try:
        service.store.stat(ObjectName.parse(path))
    except MissingError:
        return
    raise AssertionError(f"{path} still exists")
