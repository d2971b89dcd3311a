"""A night repeats the customizations that follow a recipe, in order."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import RepositoryServer
from tests.flows.test_nightly import ended, objects, outcomes
from tests.service import Service

RECIPE, BASE, SITE = "chain", "chain-base", "chain-site"


def night_of(service: Service) -> dict[str, Any]:
    """Run a night of the recipe and of what was made from it; returns it when it has ended."""
    night = ended(service, service.client.create("nights", recipes=[RECIPE])["id"])
    assert night["status"] == "success", night["reason"]
    return night


def made(service: Service, job: dict[str, Any]) -> dict[str, Any]:
    """Wait until a job has ended; returns its image."""
    job = service.wait(job["id"])
    assert job["status"] == "success", job["reason"]
    return dict(service.client.get(f"images/{job['resultant_image_id']}"))


def customized(service: Service, image: dict[str, Any], name: str, script: str) -> dict[str, Any]:
    """Customize an image by a script without a network; returns the new image."""
    fields = {"artifact_id": image["id"], "image_root_archive_name": name, "script": script, "network": "none"}
    return made(service, service.client.create("jobs", job_type="customize", **fields))


def push(service: Service, folder: Path, url: str, message: str) -> dict[str, Any]:
    """Push the recipe with a file in its overlay."""
    shutil.copytree(RECIPES / "zypper", folder, dirs_exist_ok=True)
    (folder / "root/etc").mkdir(parents=True, exist_ok=True)
    (folder / "root/etc/issue").write_text(message)
    recipe = service.push(folder, "sles15", REPOSITORY=url)
    return dict(service.client.update(f"recipes/{recipe['id']}", name=RECIPE))


def images_of(night: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """The outcome of each customized image of a night, and why."""
    return {image["name"]: (image["outcome"], image["why"]) for image in night["images"]}


def test_chain(service: Service, http_server: RepositoryServer, tmp_path: Path) -> None:
    """A changed recipe has both customizations repeated, each on the new image before it. Then nothing changed.

    A customization with another script is not repeated; those that follow it are.
    """
    folder = tmp_path / RECIPE
    recipe = push(service, folder, http_server.url, "first")
    root = made(service, service.create(recipe["id"]))
    base = customized(service, root, BASE, "cp /etc/issue /etc/base")
    site = customized(service, base, SITE, "cp /etc/base /etc/site")
    for image in (base, site):
        service.client.update(f"images/{image['id']}", nightly=True)

    push(service, folder, http_server.url, "second")
    first = night_of(service)
    assert outcomes(first) == {RECIPE: "built"}
    assert images_of(first) == dict.fromkeys((BASE, SITE), ("built", "its parent changed"))
    new_base, new_site = (service.client.get(f"images/{image['image_id']}") for image in first["images"])
    assert [new_base["source_image_id"], new_site["source_image_id"]] == [
        first["recipes"][0]["image_id"],
        new_base["id"],
    ]
    assert (new_site["name"], new_site["nightly"], new_site["changes"]) == (SITE, True, site["changes"])
    assert new_site["customization_digest"] != site["customization_digest"]

    before = objects(service)
    second = night_of(service)
    assert outcomes(second) == {RECIPE: "unchanged"}
    assert images_of(second) == dict.fromkeys((BASE, SITE), ("unchanged", "nothing changed"))
    assert objects(service) == before
    assert service.client.get(f"images/{new_site['id']}")["checked"] > second["created"]

    another = customized(service, service.client.get(f"images/{new_base['source_image_id']}"), BASE, "echo > /etc/base")
    assert another["nightly"]
    third = night_of(service)
    assert images_of(third) == {BASE: ("unchanged", "nothing changed"), SITE: ("built", "its parent changed")}
    assert third["images"][1]["parent_id"] == another["id"]
    for identity in (another["id"], third["images"][1]["image_id"]):  # nights of other tests leave them out
        service.client.update(f"images/{identity}", nightly=False)
