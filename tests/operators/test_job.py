"""The tasks that open the workspace of a job, register its image and clean up."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from ims.operators import job
from ims.operators.job import (
    CloseWorkspaceOperator,
    OpenWorkspaceOperator,
    RemoveWorkspaceOperator,
    SaveImageRecordOperator,
    WriteManifestOperator,
)
from ims.params import boot_files
from ims.settings import settings
from ims.storage import manifest
from ims.storage.manifest import read_manifest
from ims.triggers.space import SpaceTrigger
from ims.workflows import ENVIRONMENT_FAILED
from tests.operators.fakes import RUN_ID, WORKSPACE_ID, FakeApi, FakeRuntime, FakeStore, make_context, xcoms

RECIPE = {
    "id": "r1",
    "name": "site",
    "arch": "x86_64",
    "link": {"type": "s3", "path": "s3://recipes/r1.tar.gz"},
    "template_dictionary": [{"key": "RELEASE", "value": "15"}],
}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """The API, which knows one recipe."""
    found = FakeApi(**{"recipes/r1": RECIPE})
    monkeypatch.setattr(job, "api_client", lambda: found)
    return found


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    """The runtime."""
    found = FakeRuntime()
    monkeypatch.setattr(job, "runtime", lambda: found)
    return found


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    """S3."""
    found = FakeStore()
    monkeypatch.setattr(job, "object_store", lambda: found)
    return found


def open_workspace(artifact_id: str = "r1", size_gib: int | None = None, **params: Any) -> Any:
    """Run the task."""
    task = OpenWorkspaceOperator(task_id="open_workspace", kind="recipes", artifact_id=artifact_id, size_gib=size_gib)
    return task.execute(make_context(image_root_archive_name="site-1", **params))


@pytest.mark.usefixtures("api", "runtime")
def test_open_workspace() -> None:
    """The results are all that later tasks need of the record and of the job."""
    result = open_workspace()
    assert len(result.pop("image_id")) == 36
    assert len(result.pop("lineage")) == 36
    assert result == {
        "workspace": f"/workspaces/{WORKSPACE_ID}",
        "job_id": RUN_ID,
        "image_name": "site-1",
        "path": "s3://recipes/r1.tar.gz",
        "etag": None,
        "arch": "x86_64",
        "profiles": [],
        **boot_files.DEFAULTS,
    }


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize(
    ("maker", "damage", "etag"), [("j1", None, "e1"), (None, None, None), ("j1", "initrd is gone", None)]
)
def test_etag(api: FakeApi, maker: str | None, damage: str | None, etag: str | None) -> None:
    """That of an object that a job wrote is known, unless it is damaged. What others say of theirs is not."""
    link = {"type": "s3", "path": "s3://boot-images/i1/manifest.yaml", "etag": "e1"}
    api.answers["recipes/r1"] = {**RECIPE, "link": link, "job_id": maker, "damage": damage}
    assert open_workspace()["etag"] == etag


@pytest.mark.usefixtures("runtime")
def test_profiles(api: FakeApi) -> None:
    """Those of the job count; without them, those of the recipe."""
    api.answers["recipes/r1"] = {**RECIPE, "profiles": ["Base"]}
    assert open_workspace()["profiles"] == ["Base"]
    assert open_workspace(profiles=[])["profiles"] == ["Base"]
    assert open_workspace(profiles=["Lab"])["profiles"] == ["Lab"]


@pytest.mark.usefixtures("runtime")
def test_boot_files(api: FakeApi) -> None:
    """Each name is that of the job, else that of the recipe, else the default."""
    api.answers["recipes/r1"] = {**RECIPE, "initrd_file_name": "initramfs.img", "kernel_file_name": "bzImage"}
    found = open_workspace(kernel_file_name="vmlinux", initrd_file_name=None)
    names = ("vmlinux", "initramfs.img", "kernel-parameters")
    assert (found["kernel_file_name"], found["initrd_file_name"], found["kernel_parameters_file_name"]) == names


@pytest.mark.usefixtures("api", "runtime")
def test_each_try_has_its_own_image_id() -> None:
    """Two tries never write the same objects."""
    assert open_workspace()["image_id"] != open_workspace()["image_id"]


@pytest.mark.usefixtures("api")
def test_new_job_waits_for_space(runtime: FakeRuntime) -> None:
    """It says so and makes nothing, and waits again if other jobs took the space. Then it goes on."""
    task = OpenWorkspaceOperator(task_id="open_workspace", kind="recipes", artifact_id="r1", size_gib=None)
    context = make_context(image_root_archive_name="site-1")
    runtime.shortages = ["the disk of /a is full", "the disk of /b is full"]
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    assert isinstance(deferred.value.trigger, SpaceTrigger)
    assert xcoms(context) == {"waits_for": "the disk of /a is full"}
    event = {"event": {"until": deferred.value.trigger.until}}
    with pytest.raises(TaskDeferred) as again:
        task.resume_execution(deferred.value.method_name, event, context)
    assert again.value.trigger.serialize() == deferred.value.trigger.serialize()
    assert xcoms(context) == {"waits_for": "the disk of /b is full"}
    assert not runtime.calls
    assert task.resume_execution(deferred.value.method_name, event, context)["job_id"] == RUN_ID


@pytest.mark.usefixtures("api")
def test_wait_for_space_ends(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a day, the job fails because of its environment. The reason names the disk and the setting."""
    monkeypatch.setattr(job, "SPACE_SECONDS", 0)
    task = OpenWorkspaceOperator(task_id="open_workspace", kind="recipes", artifact_id="r1", size_gib=None)
    context = make_context(image_root_archive_name="site-1")
    runtime.shortages = ["the disk of /a has 1 MiB free; new jobs wait until it has 2"]
    reason = r"the disk of /a has 1 MiB free; .* until it has 2, and the job waited .* IMS_DISK_WATERMARK_MIB"
    with pytest.raises(AirflowFailException, match=reason):
        task.execute(context)
    assert xcoms(context)[ENVIRONMENT_FAILED]
    assert not runtime.calls


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(("size", "expected"), [(7, 7), (None, settings().build_env_size)])
def test_size_of_the_workspace(runtime: FakeRuntime, size: int | None, expected: int) -> None:
    """The setting applies unless the job overrides it."""
    open_workspace(size_gib=size)
    assert runtime.calls == [("open_workspace", WORKSPACE_ID, expected)]


def test_record_without_a_link(api: FakeApi, runtime: FakeRuntime) -> None:
    """There is nothing to work on."""
    api.answers["recipes/r1"] = {**RECIPE, "link": None}
    with pytest.raises(AirflowFailException, match=r"site \(r1\) has no link to an object in S3\. Set its link"):
        open_workspace()
    assert not runtime.calls


@pytest.mark.usefixtures("api", "runtime")
def test_missing_record() -> None:
    """Another try cannot help."""
    with pytest.raises(AirflowFailException, match="recipes/gone"):
        open_workspace("gone")


def close(image_id: str | None) -> None:
    """Run the last task of a job."""
    CloseWorkspaceOperator(task_id="close_workspace", image_id=image_id).execute(make_context())


def test_close_after_success(api: FakeApi, runtime: FakeRuntime, store: FakeStore) -> None:
    """The artifacts of a registered image stay."""
    store.objects["s3://boot-images/i1/rootfs"] = b""
    api.answers["images/i1"] = {"id": "i1"}
    close("i1")
    assert runtime.calls == [("close_workspace", WORKSPACE_ID)]
    assert store.objects


@pytest.mark.usefixtures("api")
def test_close_without_a_registered_image(runtime: FakeRuntime, store: FakeStore) -> None:
    """Its artifacts go, those of other images stay; the failure of this task makes the run a failed one."""
    store.objects |= {"s3://boot-images/i1/rootfs": b"", "s3://boot-images/i2/rootfs": b""}
    with pytest.raises(AirflowFailException, match="the job made no image"):
        close("i1")
    assert runtime.calls == [("close_workspace", WORKSPACE_ID)]
    assert list(store.objects) == ["s3://boot-images/i2/rootfs"]


@pytest.mark.usefixtures("api", "runtime")
def test_close_before_there_was_an_image_id(store: FakeStore) -> None:
    """The job ended in its first task: nothing was uploaded, and no prefix is not the whole bucket."""
    store.objects["s3://boot-images/i2/rootfs"] = b""
    with pytest.raises(AirflowFailException, match="the job made no image"):
        close(None)
    assert store.objects


def test_remove_workspace(runtime: FakeRuntime) -> None:
    """The run of a plan makes no image."""
    RemoveWorkspaceOperator(task_id="close_workspace").execute(make_context("plan_images"))
    assert runtime.calls == [("close_workspace", f"{RUN_ID}-plan-images")]


def uploaded(name: str, kind: str) -> dict[str, Any]:
    """What the step upload_artifacts returns for one artifact."""
    path = f"s3://boot-images/i1/{name}"
    return {"type": kind, "path": path, "etag": f"{name}-2", "size": 1, "md5": "0" * 32, "sha256": "1" * 64}


def test_write_manifest(store: FakeStore) -> None:
    """It lists the artifacts of all uploads in their order."""
    uploads = [
        {"artifacts": [uploaded("rootfs", manifest.ROOTFS)]},
        {"artifacts": [uploaded("kernel", manifest.KERNEL), uploaded("initrd", manifest.INITRD)]},
    ]
    task = WriteManifestOperator(task_id="write_manifest", image_id="i1", uploads=uploads)
    path = f"s3://{settings().images_bucket}/i1/manifest.yaml"
    assert task.execute(make_context()) == {"path": path, "etag": "etag-1"}
    found = read_manifest(store.objects[path], path).artifacts
    assert [(item.type, item.md5, item.link.path, item.link.etag) for item in found] == [
        (manifest.ROOTFS, "0" * 32, "s3://boot-images/i1/rootfs", "rootfs-2"),
        (manifest.KERNEL, "0" * 32, "s3://boot-images/i1/kernel", "kernel-2"),
        (manifest.INITRD, "0" * 32, "s3://boot-images/i1/initrd", "initrd-2"),
    ]


def test_save_image_record(api: FakeApi) -> None:
    """The record has the id of the objects, a link to the manifest, and what the image was made from."""
    task = SaveImageRecordOperator(
        task_id="save_image_record",
        image_id="i1",
        name="site-1",
        arch="x86_64",
        manifest={"path": "s3://boot-images/i1/manifest.yaml", "etag": "etag-1"},
        uploads=[{"artifacts": [uploaded("customization.json", manifest.CUSTOMIZATION)]}],
        origin={"source_recipe_id": "r1"},
    )
    assert task.execute(make_context())["id"] == "i1"
    assert api.changes == [
        (
            "PUT",
            "images/i1",
            {
                "name": "site-1",
                "arch": "x86_64",
                "link": {"type": "s3", "path": "s3://boot-images/i1/manifest.yaml", "etag": "etag-1"},
                "job_id": RUN_ID,
                "size": 1,
                "customization_digest": "1" * 64,
                "source_recipe_id": "r1",
            },
        )
    ]
