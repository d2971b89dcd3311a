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
from ims.settings import settings
from ims.stack import lifecycle
from tests.flows.conftest import RECIPES
from tests.flows.leftovers import Leftovers
from tests.flows.rpm_repository import RepositoryServer, basic_packages, build_repository, kernel
from tests.flows.waiting import wait_for
from tests.service import Service

SHARED, NEW, GONE = "night-a", "n" * 253, "night-gone"
BROKEN, DEEP, DEAD = ("night-x", "night-y"), "night-deep", "night-dead"
CURRENT = tuple(f"night-{number:02}" for number in range(13))
BUILT, FAILED = (SHARED, NEW, GONE), (*BROKEN, DEEP, DEAD)
NAMES = (*BUILT, *CURRENT, *FAILED)
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

    Those in BROKEN have a script that fails, DEEP has 1,600 nested folders, and the initrd of NEW has another name.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder, packed = Path(temporary) / "recipe", Path(temporary) / "recipe.tar.gz"
        shutil.copytree(RECIPES / "zypper", folder)
        if name in BROKEN:
            (folder / "config.sh").write_text("#!/bin/sh\nexit 3\n")
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


def objects(service: Service) -> set[str]:
    """Return the objects of all images."""
    return Leftovers(service).before["objects"]


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

    One recipe's image is deleted meanwhile, one has a name of 253 characters, one has 1,600 nested folders, and the
    repository of one is dead, which does not count towards pausing it.

    The next night builds only failed recipes. They are paused after two nights, as configured for tests, until they
    are marked as nightly again.
    """
    urls = {SHARED: slow_server.url, DEAD: DEAD_URL}
    recipes = {name: push(service, name, urls.get(name, http_server.url)) for name in NAMES}
    images = make_current(service, [recipes[name] for name in (*CURRENT, GONE)])
    slow_server.fail()
    with inbox(service) as box:
        shared = service.create(recipes[SHARED]["id"], repository_timeout=600)
        night = service.client.create("nights", force=False)
        wait_for(lambda: service.client.get(f"nights/{night['id']}")["recipes"])
        service.client.delete(f"images/{images.pop(GONE)}")
        wait_for(lambda: is_shared(service, night, shared), 300, pause=1)
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
    assert (first["status"], counts, first["paused"]) == ("error", (3, 4, 13), [])
    assert first["result"] == "4 failed, 3 built, 13 unchanged"
    found = {recipe["name"]: recipe for recipe in first["recipes"]}
    assert found[SHARED]["job_id"] == shared["id"]
    assert all("config.sh" in found[name]["reason"] for name in BROKEN)
    assert "cannot be unpacked safely" in found[DEEP]["reason"]
    assert f"{DEAD_URL} (" in found[DEAD]["reason"]
    assert {name: found[name]["failures"] for name in FAILED} == {**dict.fromkeys((*BROKEN, DEEP), 1), DEAD: 0}
    assert {name: found[name]["image_id"] for name in CURRENT} == images
    for name in BUILT:
        assert service.client.get(f"images/{found[name]['image_id']}")["source_recipe_id"] == recipes[name]["id"]
        assert found[name]["seconds"] > 0
    jobs = [job for job in service.client.get("jobs", job_type="create") if job["image_root_archive_name"] in NAMES]
    assert sorted(job["artifact_id"] for job in jobs) == sorted(recipes[name]["id"] for name in (NEW, GONE, *FAILED))
    assert message["title"] == "Nightly images: 4 failed, 3 built, 13 unchanged"
    assert all(f"failed: {name}: {found[name]['reason']}" in message["message"] for name in FAILED)
    assert SECRET not in logs_of(service, first)

    broken, other = BROKEN
    for name in (other, DEEP, DEAD):
        service.client.update(f"recipes/{recipes[name]['id']}", nightly=False)
    before = objects(service)
    second = night_of(service)
    assert outcomes(second) == {**dict.fromkeys(BUILT, "unchanged"), broken: "failed", **unchanged}
    assert objects(service) == before
    for recipe in second["recipes"]:
        if recipe["name"] != broken:
            assert recipe["image_id"] == found[recipe["name"]]["image_id"]
            assert service.client.get(f"images/{recipe['image_id']}")["checked"] > second["created"]

    assert [recipe["name"] for recipe in second["paused"]] == [broken]
    third = night_of(service)
    assert (third["status"], outcomes(third)) == ("success", dict.fromkeys((*BUILT, *CURRENT), "unchanged"))
    assert third["result"] == "nothing to do: 16 unchanged, 1 paused"
    assert [recipe["failures"] for recipe in third["paused"]] == [2]
    resumed = service.client.update(f"recipes/{recipes[broken]['id']}", nightly=True)
    assert resumed["nightly_failures"] == 0
    for recipe in recipes.values():
        service.client.update(f"recipes/{recipe['id']}", nightly=False)


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
