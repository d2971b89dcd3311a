"""Plans of recipes with real repositories, after changes and without."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import Any

import pytest

from ims.recipes.build_inputs import BuildInputs
from tests.flows.conftest import RECIPES
from tests.flows.debian import DebianImage
from tests.flows.rpm_repository import Package, RepositoryServer, basic_packages, build_repository
from tests.service import Service

pytestmark = pytest.mark.kubernetes


def plan(service: Service, recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the plan of a recipe."""
    return dict(service.client.call("POST", f"recipes/{recipe['id']}/plan"))


def recipe_folder(folder: Path, manager: str, *packages: str) -> Path:
    """Create a recipe of the tests with more packages; returns its folder."""
    shutil.copytree(RECIPES / manager, folder)
    more = "".join(f'<package name="{name}"/>' for name in packages)
    path = folder / "config.xml"
    path.write_text(path.read_text().replace("</packages>", f"{more}</packages>"))
    return folder


@pytest.mark.parametrize("manager", ["zypper", "dnf"])
def test_plan(service: Service, tmp_path: Path, manager: str) -> None:
    """Recipes with a changed package are built, others are not. A changed script needs no new installation."""
    served = build_repository(tmp_path / "served", [*basic_packages(), Package("tool")])
    with RepositoryServer(served) as server:
        plain, with_tool = (
            service.push(recipe_folder(tmp_path / name, manager, *packages), "sles15", REPOSITORY=server.url)
            for name, packages in (("plain", ()), ("with-tool", ("tool",)))
        )
        first = plan(service, plain)
        assert (first["verdict"], first["image_id"]) == ("build", None)
        jobs = [service.create(recipe["id"]) for recipe in (plain, with_tool)]
        images = [service.wait(job["id"])["resultant_image_id"] for job in jobs]
        now = plan(service, plain)
        inputs = {item["name"]: item for item in now.pop("inputs")}
        assert {"description", "files", "builder: code", f"repository: {server.url}/repodata/repomd.xml"} <= set(inputs)
        assert not any(item["changed"] or item["opaque"] for item in inputs.values())
        assert now == {
            "recipe_id": plain["id"],
            "name": plain["name"],
            "verdict": "skip",
            "reason": "nothing changed",
            "differs": [],
            "packages": [],
            "image_id": images[0],
        }
        build_repository(served, [Package("unrelated")])
        for recipe in (plain, with_tool):
            unrelated = plan(service, recipe)
            assert (unrelated["verdict"], unrelated["differs"]) == ("skip", ["repositories"]), unrelated
        build_repository(served, [Package("tool", version="1.1")])
        assert plan(service, plain)["verdict"] == "skip"
        newer = plan(service, with_tool)
        assert (newer["verdict"], newer["packages"]) == ("build", [f"tool.{platform.machine()} 1.0-1 -> 1.1-1"]), newer
        changed = recipe_folder(tmp_path / "changed", manager)
        with (changed / "config.sh").open("a") as script:
            script.write("\ntouch /changed\n")
        pushed = service.push(changed, "sles15", REPOSITORY=server.url)
        service.client.update(f"recipes/{pushed['id']}", name=plain["name"])
        script_only = plan(service, pushed)
        assert (script_only["verdict"], script_only["differs"]) == ("repack", ["files", "repositories"]), script_only
        service.client.update(
            f"recipes/{plain['id']}", template_dictionary=[{"key": "REPOSITORY", "value": f"{server.url}/"}]
        )
        assert plan(service, plain)["differs"] == ["description", "repositories"]
        server.fail(503)
        silent = plan(service, with_tool)
        assert (silent["verdict"], "503" in silent["reason"]) == ("build", True)


def test_plan_of_a_recipe_that_downloads(service: Service, tmp_path: Path) -> None:
    """A script gets a file from the host of the repository. No index has it, so the recipe is always built."""
    served = build_repository(tmp_path / "served", basic_packages())
    (served / "more.txt").write_text("one")
    folder = recipe_folder(tmp_path / "recipe", "dnf")
    with RepositoryServer(served) as server:
        (folder / "config.sh").write_text(f"#!/bin/bash\nset -e\nwget -O /etc/more {server.url}/more.txt\n")
        recipe = service.push(folder, "sles15", REPOSITORY=server.url)
        service.wait(service.create(recipe["id"])["id"])
        (served / "more.txt").write_text("two")
        found = plan(service, recipe)
    reason = f"config.sh or images.sh contacted {server.url.removeprefix('http://')} in the last build"
    assert (found["verdict"], found["reason"]) == ("build", f"it is unknown what changed: {reason}")
    assert [item["opaque"] for item in found["inputs"] if item["opaque"]] == [reason]


def test_plan_of_debian(service: Service, debian: DebianImage) -> None:
    """The packages that apt-get resolves are those that kiwi-ng installed, so the image is current."""
    found = plan(service, {"id": debian.record["source_recipe_id"]})
    assert (found["verdict"], found["image_id"]) == ("skip", debian.record["id"])
    inputs = BuildInputs.read(debian.files["provenance.json"].read_bytes())
    assert inputs.packages, inputs.unknown
    assert "linux-image-amd64" in {package.name for package in inputs.packages}
