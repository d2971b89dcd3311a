"""The tasks of a night that repeat customizations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from ims.errors import InputError, MissingError, UnavailableError
from ims.nights import NightImage
from ims.operators import replays
from ims.operators.replays import ChooseImagesOperator, ReplayImagesOperator, count_image_failures, end_images
from ims.replays.customization import Customization
from ims.storage.manifest import ROOTFS, Artifact, Link, write_manifest
from ims.triggers.jobs import JobEndTrigger
from tests.operators.fakes import RUN_ID, FakeApi, FakeStore, make_context, xcoms
from tests.replays.test_customization import HERE, MADE

BUCKET = "s3://boot-images"


def add_image(api: FakeApi, store: FakeStore, identity: str, parent: str | None = None, **fields: Any) -> None:
    """Add an image with a manifest. If it was made from a parent, a script without a network did that."""
    md5 = hashlib.md5(identity.encode(), usedforsecurity=False).hexdigest()
    rootfs = Artifact(type=ROOTFS, md5=md5, link=Link(path=f"{BUCKET}/{identity}/rootfs", etag="etag-1"))
    store.objects[rootfs.link.path] = b""
    path = f"{BUCKET}/{identity}/manifest.yaml"
    store.objects[path] = write_manifest([rootfs]).encode()
    record = {"id": identity, "name": identity[:-1], "arch": "x86_64", "nightly": parent is not None}
    record |= {"nightly_failures": 0, "source_image_id": parent, "source_recipe_id": None, "link": {"path": path}}
    if parent is not None:
        record["customization_digest"] = add_customization(store, identity, parent)
    api.answers["images"].append({**record, **fields})


def add_customization(store: FakeStore, identity: str, parent: str, **changes: Any) -> str:
    """Add the build inputs of an image; returns their digest."""
    md5 = hashlib.md5(parent.encode(), usedforsecurity=False).hexdigest()
    found = MADE.model_copy(update={"parent": hashlib.sha256(md5.encode()).hexdigest(), **changes})
    data = found.model_dump_json().encode()
    store.objects[f"{BUCKET}/{identity}/customization.json"] = data
    assert Customization.read(data, hashlib.sha256(data).hexdigest()) == found
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    """An S3."""
    store = FakeStore()
    monkeypatch.setattr(replays, "object_store", lambda: store)
    return store


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, store: FakeStore) -> FakeApi:
    """An API with the images root1 → base1 → site1. The next jobs have the id j1."""
    empty: dict[str, Any] = {"images": [], "deleted/images": [], "recipes": [], "deleted/recipes": []}
    api = FakeApi(**empty, **{f"nights/{RUN_ID}": {"recipes": []}, "jobs": {"id": "j1", "dag_run_id": "j1"}})
    for identity, parent in (("root1", None), ("base1", "root1"), ("site1", "base1")):
        add_image(api, store, identity, parent)
    monkeypatch.setattr(replays, "api_client", lambda: api)
    return api


def replay(**fields: Any) -> ReplayImagesOperator:
    """The task of a night that chose both images."""
    images = ChooseImagesOperator(task_id="choose_images", recipes=[]).execute(make_context("nightly_images"))
    arguments = {"images": images, "environment": HERE.model_dump(), "force": False, **fields}
    return ReplayImagesOperator(task_id="replay_images", **arguments)


def ended(**fields: Any) -> dict[str, tuple[str, str]]:
    """Run the task, which starts no job; returns outcomes and reasons by name."""
    found = [NightImage(**item) for item in replay(**fields).execute(make_context("nightly_images"))]
    return {item.name: (item.outcome, item.reason or item.why) for item in found}


def begun(api: FakeApi, context: Any, **fields: Any) -> TaskDeferred:
    """Run the task, which waits for a job."""
    with pytest.raises(TaskDeferred) as deferred:
        replay(**fields).execute(context)
    return deferred.value


def started(api: FakeApi) -> list[dict[str, Any]]:
    """The jobs that were started."""
    return [body for method, path, body in api.changes if (method, path) == ("POST", "jobs")]


def test_nothing_changed(api: FakeApi) -> None:
    """The images are marked as checked, and no job is started."""
    assert ended() == dict.fromkeys(("base", "site"), ("unchanged", "nothing changed"))
    assert [(method, path) for method, path, _ in api.changes] == [("PATCH", "images/base1"), ("PATCH", "images/site1")]


def test_chain(api: FakeApi, store: FakeStore) -> None:
    """An image runs on the newest one of its parent's name, and the next one on its result."""
    add_image(api, store, "root2")
    context = make_context("nightly_images")
    first = begun(api, context)
    assert isinstance(first.trigger, JobEndTrigger)
    assert (first.trigger.dag_id, first.trigger.run_ids) == ("customize_image", ["j1"])
    (job,) = started(api)
    assert (job["artifact_id"], job["image_root_archive_name"], job["script"]) == ("root2", "base", "true")
    assert (job["network"], job["lease"]) == ("none", 60)
    assert [item["outcome"] for item in xcoms(context)["return_value"]] == ["building", "waiting"]

    add_image(api, store, "base2", "root2")
    api.answers["jobs/j1"] = {"status": "success", "resultant_image_id": "base2", "reason": None}
    api.answers["jobs"] = {"id": "j2", "dag_run_id": "j2"}
    assert first.kwargs is not None
    with pytest.raises(TaskDeferred) as second:
        replay().resume(context, {"running": 0}, **first.kwargs)
    assert started(api)[1]["artifact_id"] == "base2"
    add_image(api, store, "site2", "base2")
    api.answers["jobs/j2"] = {"status": "success", "resultant_image_id": "site2", "reason": None}
    assert second.value.kwargs is not None
    results = replay().resume(context, {"running": 0}, **second.value.kwargs)
    assert [(item["outcome"], item["image_id"]) for item in results] == [("built", "base2"), ("built", "site2")]


def test_failed_parent(api: FakeApi, store: FakeStore) -> None:
    """Images that were made from a failed one are not made again, and the result gives the reason."""
    add_image(api, store, "root2")
    context = make_context("nightly_images")
    first = begun(api, context)
    api.answers["jobs/j1"] = {"status": "error", "resultant_image_id": None, "reason": "run_script: no"}
    assert first.kwargs is not None
    results = replay().resume(context, {"running": 0}, **first.kwargs)
    assert [(item["outcome"], item["reason"]) for item in results] == [
        ("failed", "run_script: no"),
        ("skipped", "its parent was not built: base failed"),
    ]


def test_deleted_job(api: FakeApi, store: FakeStore) -> None:
    """An image whose job was deleted has failed, and images that were made from it are not made again."""
    add_image(api, store, "root2")
    context = make_context("nightly_images")
    first = begun(api, context)
    assert first.kwargs is not None
    results = replay().resume(context, {"running": 0}, **first.kwargs)
    assert [(item["outcome"], item["reason"]) for item in results] == [
        ("failed", "the job j1 was deleted"),
        ("skipped", "its parent was not built: base failed"),
    ]


@pytest.mark.parametrize("name", ["rootfs", "manifest.yaml"])
def test_damaged_image(api: FakeApi, store: FakeStore, name: str) -> None:
    """An image whose objects are gone from S3 is made again, although nothing changed."""
    del store.objects[f"{BUCKET}/site1/{name}"]
    context = make_context("nightly_images")
    begun(api, context)
    (job,) = started(api)
    assert (job["artifact_id"], job["image_root_archive_name"]) == ("base1", "site")
    why = xcoms(context)["return_value"][1]["why"]
    assert why.startswith("the image is not complete: ")
    assert f"{BUCKET}/site1/{name}" in why


def test_failed_recipe(api: FakeApi) -> None:
    """The images that follow a recipe that this night could not build stay as they are."""
    recipe = {"id": "r", "name": "compute", "arch": "x86_64", "nightly": True, "nightly_failures": 1, "link": None}
    api.answers["recipes"] = [recipe]
    api.answers["images"][0]["source_recipe_id"] = "r"
    api.answers[f"nights/{RUN_ID}"] = {"recipes": [{"recipe_id": "r", "outcome": "failed"}]}
    assert ended() == {
        "base": ("skipped", "its parent was not built: the recipe compute failed"),
        "site": ("skipped", "its parent was not built: base skipped"),
    }


def test_environment_changed(api: FakeApi) -> None:
    """The first image is made again, the next one follows it. A forced night does the same."""
    for fields in ({"environment": {"ca_certificate": "new", "builder": HERE.builder}}, {"force": True}):
        begun(api, make_context("nightly_images"), **fields)
    assert [job["image_root_archive_name"] for job in started(api)] == ["base", "base"]


def test_playbook(api: FakeApi, store: FakeStore) -> None:
    """The archive that the image keeps runs, and only if it has the digest of the record."""
    parameters = MADE.parameters.model_copy(update={"script": None, "network": "open"})
    digest = add_customization(store, "base1", "root1", parameters=parameters, playbook="5" * 64)
    api.answers["images"][1]["customization_digest"] = digest
    begun(api, make_context("nightly_images"))
    (job,) = started(api)
    assert (job["playbook"], job["playbook_sha256"]) == (f"{BUCKET}/base1/playbook.tar.gz", "5" * 64)
    assert "script" not in job


BROKEN: dict[str, tuple[Callable[[FakeApi, FakeStore], object], str]] = {
    "replaced": (lambda _, store: store.objects.update({f"{BUCKET}/base1/customization.json": b"{}"}), "was replaced"),
    "gone": (lambda _, store: store.objects.pop(f"{BUCKET}/base1/customization.json"), "customization.json"),
    "no rootfs": (lambda _, store: store.objects.update({f"{BUCKET}/root1/manifest.yaml": b"{}"}), "version"),
    "refused": (lambda api, _: api.answers.update({"jobs": InputError("the job is refused")}), "the job is refused"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_image(api: FakeApi, store: FakeStore, name: str) -> None:
    """It fails with the reason, and does not stop the others. A script that somebody replaced in S3 does not run."""
    add_image(api, store, "else1", "root1")
    break_it, reason = BROKEN[name]
    break_it(api, store)
    results = ended(force=name == "refused")
    assert results["base"][0] == "failed"
    assert reason in results["base"][1]
    assert results["site"] == ("skipped", "its parent was not built: base failed")
    assert name not in ("replaced", "gone") or results["else"] == ("unchanged", "nothing changed")
    assert not started(api)


def test_outage(api: FakeApi) -> None:
    """Another try of the task may help if a service does not answer."""
    api.answers["images"] = UnavailableError("the service does not answer")
    with pytest.raises(Exception, match="does not answer") as raised:
        replay(images=[{"source_id": "base1", "name": "base"}]).execute(make_context("nightly_images"))
    assert not isinstance(raised.value, AirflowFailException)


def test_environment_is_not_known(api: FakeApi) -> None:
    """The task fails: nothing can be compared."""
    with pytest.raises(AirflowFailException, match="describe_builder failed"):
        replay(environment=None).execute(make_context("nightly_images"))


def test_failures_are_counted(api: FakeApi, configure: Callable[..., None]) -> None:
    """Only counts that changed are written; images that reach the limit are paused."""
    configure(nightly_pause_after=2)
    results = [
        NightImage(source_id="base1", name="base", outcome="failed", failures=2),
        NightImage(source_id="site1", name="site", outcome="building"),
    ]
    end_images(results)
    assert (results[1].outcome, results[1].reason) == (
        "failed",
        "the night ended before it was decided about: see the log of replay_images",
    )
    assert [item.image_id for item in count_image_failures(api, results)] == ["base1"]  # type: ignore[arg-type]
    assert api.changes == [("PATCH", "images/base1", {"nightly_failures": 2})]
    api.failures["images/base1"] = MissingError("it was deleted")
    count_image_failures(api, [results[0].model_copy(update={"failures": 3})])  # type: ignore[arg-type]
