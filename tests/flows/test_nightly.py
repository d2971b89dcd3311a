"""Nights with many recipes, some of which cannot be built or have not changed."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ims import supervisord
from ims.recipes import archive
from ims.removal import remove
from ims.settings import settings
from ims.stack import lifecycle
from tests.flows.conftest import RECIPES
from tests.flows.leftovers import Leftovers
from tests.flows.rpm_repository import RepositoryServer, basic_packages, build_repository, kernel
from tests.flows.waiting import wait_for
from tests.service import Service

SHARED, NEW, GONE, CHAIN = "night-a", "n" * 253, "night-gone", "night-chain"
BROKEN, DEEP, DEAD, LOST = ("night-x", "night-y"), "night-deep", "night-dead", "night-lost"
CURRENT = tuple(f"night-{number:02}" for number in range(11))
BUILT, FAILED = (SHARED, NEW, GONE, CHAIN), (*BROKEN, DEEP, DEAD, LOST)
NAMES = (LOST, *BUILT, *CURRENT, *BROKEN, DEEP, DEAD)
"""In the order in which nights build them, two at a time."""
SITE, NODE, STUCK = "night-site", "night-node", "night-stuck"
"""Customized images: SITE is made from the image of CHAIN, NODE from SITE, STUCK from an image of BROKEN."""
DEAD_URL = "http://127.0.0.1:9"
"""Nothing listens there."""
SECRET = "a-word-that-nobody-may-see"


class Inbox(ThreadingHTTPServer):
    """A webhook that keeps the messages that it receives."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.messages: list[dict[str, Any]] = []


class _Post(BaseHTTPRequestHandler):
    server: Inbox

    def do_POST(self) -> None:
        self.server.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name in the base class)
        """Log nothing."""


@contextmanager
def inbox(service: Service) -> Iterator[Inbox]:
    """Run a webhook, and name it in Airflow's connection `ims_notify`, with a secret in its address."""
    with Inbox() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"json://user:{SECRET}@127.0.0.1:{server.server_port}/"
        extra = json.dumps({"config": [{"path": address, "tag": "all"}]})
        connection = {"connection_id": "ims_notify", "conn_type": "apprise", "extra": extra}
        assert service.http.post("/api/v2/connections", json=connection).status_code == 201
        yield server
        service.http.delete("/api/v2/connections/ims_notify")
        server.shutdown()


def push(service: Service, name: str, url: str) -> dict[str, Any]:
    """Push the zypper recipe under a name as a nightly recipe.

    Those in BROKEN have a script that fails, DEEP has 1,600 nested folders, the initrd of NEW has another name, and
    CHAIN has another file than the image from which `make_current` makes the others.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder, packed = Path(temporary) / "recipe", Path(temporary) / "recipe.tar.gz"
        shutil.copytree(RECIPES / "zypper", folder)
        if name in BROKEN:
            (folder / "config.sh").write_text("#!/bin/sh\nexit 3\n")
        if name == CHAIN:
            (folder / "root/etc").mkdir(parents=True, exist_ok=True)
            (folder / "root/etc/issue").write_text("the second night\n")
        if name == NEW:
            (folder / "config.sh").write_text("#!/bin/sh\ncd /boot && mv initrd-* initramfs.img && rm -f initrd\n")
        archive.pack(folder, packed)
        path = service.upload_recipe(nested(folder) if name == DEEP else packed.read_bytes())
    record = {"name": name, "recipe_type": "kiwi-ng", "linux_distribution": "sles15", "nightly": True}
    record |= {"initrd_file_name": "initramfs.img"} if name == NEW else {}
    variables = [{"key": "REPOSITORY", "value": url}]
    return dict(service.client.create("recipes", **record, link={"path": path}, template_dictionary=variables))


def nested(folder: Path) -> bytes:
    """Pack a recipe folder with 1,600 nested folders."""
    packed = io.BytesIO()
    deep = tarfile.TarInfo("d/" * 1600)
    deep.type = tarfile.DIRTYPE
    with tarfile.open(fileobj=packed, mode="w:gz") as recipe:
        recipe.add(folder, ".")
        recipe.addfile(deep)
    return packed.getvalue()


def ended(service: Service, night: str, timeout: float = 600) -> dict[str, Any]:
    """Wait until a night has ended; returns the night."""
    return dict(wait_for(lambda: _ended(service, night), timeout, pause=1))


def _ended(service: Service, night: str) -> dict[str, Any] | None:
    found: dict[str, Any] = service.client.get(f"nights/{night}")
    return found if found["status"] in ("success", "error") else None


def outcomes(night: dict[str, Any]) -> dict[str, str]:
    """Return the outcome of each recipe."""
    return {recipe["name"]: recipe["outcome"] for recipe in night["recipes"]}


def logs_of(service: Service, night: dict[str, Any]) -> str:
    """Return the logs of all tasks of a night."""
    folder = service.settings.home / "logs" / "tasks" / "dag_id=nightly_images" / f"run_id={night['dag_run_id']}"
    return "".join(path.read_text() for path in folder.rglob("*.log"))


def customized_images(night: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    """Return the outcome of each customized image, and why."""
    return {image["name"]: (image["outcome"], image["why"] or image["reason"]) for image in night["images"]}


def customize(service: Service, image_id: str, name: str, script: str) -> dict[str, Any]:
    """Start to customize an image by a script without a network; returns the job."""
    fields = {"artifact_id": image_id, "image_root_archive_name": name, "script": script, "network": "none"}
    return dict(service.client.create("jobs", job_type="customize", **fields))


def made(service: Service, job: dict[str, Any]) -> dict[str, Any]:
    """Wait until a job has ended; returns its image."""
    job = service.wait(job["id"])
    assert job["status"] == "success", job["reason"]
    return dict(service.client.get(f"images/{job['resultant_image_id']}"))


def make_chain(service: Service, images: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Make the customized images, which nights repeat; returns them by name."""
    parents = {SITE: images[CHAIN], STUCK: images[BROKEN[0]]}
    jobs = [customize(service, parent, name, "echo site > /etc/site") for name, parent in parents.items()]
    site, stuck = (made(service, job) for job in jobs)
    node = made(service, customize(service, site["id"], NODE, "cp /etc/site /etc/node"))
    for image in (site, stuck, node):
        service.client.update(f"images/{image['id']}", nightly=True)
    return {SITE: site, STUCK: stuck, NODE: node}


def lose(service: Service, job: dict[str, Any]) -> None:
    """Delete a job that runs, without its clean-up."""
    path = f"/api/v2/dags/{job['dag_id']}/dagRuns/{job['dag_run_id']}"

    def is_deleted() -> bool:
        service.http.patch(path, json={"state": "queued"})  # Airflow deletes no run that is running
        return service.http.delete(path).status_code == 204

    wait_for(is_deleted, 60)
    remove(service.workspace(job["id"]))


def objects(service: Service) -> set[str]:
    """Return the objects of all images."""
    return Leftovers(service).before["objects"]


def job_of(service: Service, night: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return the job for which a night waits because of a recipe, when it waits for repositories."""
    found = {recipe["name"]: recipe["job_id"] for recipe in service.client.get(f"nights/{night['id']}")["recipes"]}
    job = service.client.get(f"jobs/{found[name]}") if found.get(name) else {}
    return dict(job) if job.get("status") == "waiting_for_repos" else None


def is_shared(service: Service, night: dict[str, Any], job: dict[str, Any]) -> bool:
    """Return whether a night waits for a job that another user started."""
    recipes = service.client.get(f"nights/{night['id']}")["recipes"]
    return (job["id"], "building") in {(recipe["job_id"], recipe["outcome"]) for recipe in recipes}


@pytest.fixture
def slow_server(repository: Path) -> Iterator[RepositoryServer]:
    """A second server of the repository, which does not answer at first."""
    with RepositoryServer(repository) as server:
        yield server


def night_of(service: Service) -> dict[str, Any]:
    """Run a night; returns it when it has ended."""
    return ended(service, service.client.create("nights", force=False)["id"])


def test_nights(service: Service, slow_server: RepositoryServer, http_server: RepositoryServer) -> None:
    """Failed recipes do not affect others, a running job is shared, and restarts of scheduler and S3 lose nothing.

    One recipe's image is deleted meanwhile, and the job of one; one has a name of 253 characters, one has 1,600 nested
    folders, and the repository of one is dead, which does not count towards pausing it. A changed recipe has both
    customizations that follow it repeated, each on the new image before it; those of a failed recipe are not repeated.

    The next night builds only failed recipes. They are paused after two nights, as configured for tests, until they
    are marked as nightly again. A customization with another script is not repeated; those that follow it are.
    """
    urls = {SHARED: slow_server.url, LOST: slow_server.url, DEAD: DEAD_URL}
    recipes = {name: push(service, name, urls.get(name, http_server.url)) for name in NAMES}
    images = make_current(service, [recipes[name] for name in (*CURRENT, GONE, CHAIN, BROKEN[0])])
    chain = make_chain(service, images)
    slow_server.fail()
    with inbox(service) as box:
        shared = service.create(recipes[SHARED]["id"], repository_timeout=600)
        night = service.client.create("nights", force=False)
        wait_for(lambda: service.client.get(f"nights/{night['id']}")["recipes"])
        service.client.delete(f"images/{images.pop(GONE)}")
        wait_for(lambda: is_shared(service, night, shared), 300, pause=1)
        lost = wait_for(lambda: job_of(service, night, LOST), 300, pause=1)
        lose(service, lost)
        for program in ("scheduler", "s3"):
            supervisord.control(service.settings, "stop", program)
            supervisord.control(service.settings, "start", program)
        slow_server.recover()
        first = ended(service, night["id"])
        wait_for(lambda: box.messages)
        (message,) = box.messages
    unchanged = dict.fromkeys(CURRENT, "unchanged")
    assert outcomes(first) == {**dict.fromkeys(BUILT, "built"), **dict.fromkeys(FAILED, "failed"), **unchanged}
    counts = (first["built"], first["failed"], first["unchanged"])
    assert (first["status"], counts, first["paused"]) == ("error", (4, 5, 11), [])
    assert first["result"] == "5 failed, 6 built, 11 unchanged, 1 skipped"
    found = {recipe["name"]: recipe for recipe in first["recipes"]}
    assert found[SHARED]["job_id"] == shared["id"]
    assert all("config.sh" in found[name]["reason"] for name in BROKEN)
    assert "cannot be unpacked safely" in found[DEEP]["reason"]
    assert f"{DEAD_URL} (" in found[DEAD]["reason"]
    assert found[LOST]["reason"] == f"the job {lost['id']} was deleted"
    blamed = dict.fromkeys((*BROKEN, DEEP), 1)
    assert {name: found[name]["failures"] for name in FAILED} == {**blamed, DEAD: 0, LOST: 0}
    assert {name: found[name]["image_id"] for name in CURRENT} == {name: images[name] for name in CURRENT}
    for name in BUILT:
        assert service.client.get(f"images/{found[name]['image_id']}")["source_recipe_id"] == recipes[name]["id"]
        assert found[name]["seconds"] > 0
    jobs = [job for job in service.client.get("jobs", job_type="create") if job["image_root_archive_name"] in NAMES]
    own = (NEW, GONE, CHAIN, *BROKEN, DEEP, DEAD)
    assert sorted(job["artifact_id"] for job in jobs) == sorted(recipes[name]["id"] for name in own)
    assert message["title"] == f"Nightly images: {first['result']}"
    assert all(f"failed: {name}: {found[name]['reason']}" in message["message"] for name in FAILED)
    assert SECRET not in logs_of(service, first)
    broken, other = BROKEN
    is_stuck = ("skipped", f"its parent was not built: the recipe {broken} failed")
    assert customized_images(first) == {**dict.fromkeys((SITE, NODE), ("built", "its parent changed")), STUCK: is_stuck}
    replayed = {image["name"]: image["image_id"] for image in first["images"]}
    site, node = (service.client.get(f"images/{replayed[name]}") for name in (SITE, NODE))
    assert [site["source_image_id"], node["source_image_id"]] == [found[CHAIN]["image_id"], site["id"]]
    assert (node["name"], node["nightly"], node["changes"]) == (NODE, True, chain[NODE]["changes"])
    assert node["customization_digest"] != chain[NODE]["customization_digest"]

    for name in (other, DEEP, DEAD, LOST):
        service.client.update(f"recipes/{recipes[name]['id']}", nightly=False)
    another = made(service, customize(service, found[CHAIN]["image_id"], SITE, "echo another > /etc/site"))
    before = objects(service)
    second = night_of(service)
    assert outcomes(second) == {**dict.fromkeys(BUILT, "unchanged"), broken: "failed", **unchanged}
    is_same, follows = ("unchanged", "nothing changed"), ("built", "its parent changed")
    assert customized_images(second) == {SITE: is_same, NODE: follows, STUCK: is_stuck}
    replayed = {image["name"]: image["image_id"] for image in second["images"]}
    assert service.client.get(f"images/{replayed[NODE]}")["source_image_id"] == another["id"]
    assert {name for name in objects(service) if replayed[NODE] not in name} == before
    for recipe in second["recipes"]:
        if recipe["name"] != broken:
            assert recipe["image_id"] == found[recipe["name"]]["image_id"]
            assert service.client.get(f"images/{recipe['image_id']}")["checked"] > second["created"]

    assert [recipe["name"] for recipe in second["paused"]] == [broken]
    before = objects(service)
    third = night_of(service)
    assert (third["status"], outcomes(third)) == ("success", dict.fromkeys((*BUILT, *CURRENT), "unchanged"))
    assert customized_images(third) == dict.fromkeys((SITE, NODE, STUCK), is_same)
    assert third["result"] == "nothing to do: 18 unchanged, 1 paused"
    assert objects(service) == before
    for image in third["images"]:
        assert service.client.get(f"images/{image['image_id']}")["checked"] > third["created"]
    assert [recipe["failures"] for recipe in third["paused"]] == [2]
    resumed = service.client.update(f"recipes/{recipes[broken]['id']}", nightly=True)
    assert resumed["nightly_failures"] == 0
    for recipe in recipes.values():
        service.client.update(f"recipes/{recipe['id']}", nightly=False)
    for image in third["images"]:
        service.client.update(f"images/{image['image_id']}", nightly=False)


def test_publication(
    service: Service, repository: Path, tmp_path: Path, http_server: RepositoryServer, configure: Callable[..., None]
) -> None:
    """With IMS_BUILD_ON=publication, a night starts within a minute after a repository has a new package.

    A recipe of another repository is left alone.
    """
    packages = [package for package in basic_packages() if package.name != "kernel-default"]
    update = build_repository(tmp_path / "update", [*packages, kernel("6.4.0-150600.22-default")])
    folder = tmp_path / "repository"
    shutil.copytree(repository, folder)
    with RepositoryServer(folder) as server:
        recipes = [push(service, "other", http_server.url), push(service, "published", server.url)]
        for recipe in recipes:
            make_current(service, [recipe])
        watched = {item["index_url"]: item["recipes"] for item in service.client.get("nights/repositories")}
        assert watched[f"{server.url}/repodata/repomd.xml"] == [recipes[1]["id"]]
        with restarted(configure, build_on="publication"):
            known = len(server.requests)
            wait_for(lambda: server.requests[known:])
            assert nights_of(service, recipes) == []
            published = time.time()
            shutil.copytree(update, folder, dirs_exist_ok=True)
            (night,) = wait_for(lambda: nights_of(service, recipes), pause=1)
            found = ended(service, night["id"])
            assert nights_of(service, recipes) == [found]
    (built,) = (recipe for recipe in found["recipes"] if recipe["name"] in ("published", "other"))
    assert (built["name"], built["outcome"]) == ("published", "built"), built["reason"]
    assert "packages changed" in built["why"]
    assert datetime.fromisoformat(found["created"]).timestamp() - published < 60
    for recipe in recipes:
        service.client.update(f"recipes/{recipe['id']}", nightly=False)


@contextmanager
def restarted(configure: Callable[..., None], **values: str) -> Iterator[None]:
    """Restart the stack with other settings; afterwards, with those of before."""
    before = {name: str(getattr(settings(), name)) for name in values}
    restart(configure, values)
    try:
        yield
    finally:
        restart(configure, before)


def restart(configure: Callable[..., None], values: dict[str, str]) -> None:
    """Restart the stack with other settings."""
    lifecycle.down(settings())
    configure(**values)
    lifecycle.up(settings(), print)


def nights_of(service: Service, recipes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the nights that have chosen one of these recipes."""
    ids = {recipe["id"] for recipe in recipes}
    nights: list[dict[str, Any]] = service.client.get("nights")
    return [night for night in nights if ids & {recipe["recipe_id"] for recipe in night["recipes"]}]


def make_current(service: Service, recipes: list[dict[str, Any]]) -> dict[str, str]:
    """Give every recipe an image that is up to date; returns the ids of the images by the names of the recipes."""
    job = service.wait(service.create(recipes[0]["id"], image_root_archive_name="of-the-day-before")["id"])
    assert job["status"] == "success", job["reason"]
    image = service.client.get(f"images/{job['resultant_image_id']}")
    made = {recipe["name"]: service.adopt(image, recipe)["id"] for recipe in recipes[1:]}
    return {recipes[0]["name"]: image["id"], **made}
