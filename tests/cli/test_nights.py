"""`ims nights` and nightly recipes against a running stack."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.cli.conftest import PLAIN_RECIPE, Cli


def test_night(cli: Cli, recipe: dict[str, Any]) -> None:
    """A night can build a recipe by name that is not marked as nightly."""
    assert recipe["nightly"] is False
    done = cli.run("nights", "create", "--recipe", recipe["name"], "--force", "--follow", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert "1 being built" in done.stderr
    (newest,) = cli.json("nights", "list", "--limit", "1")
    assert (newest["status"], newest["built"], newest["force"]) == ("success", 1, True)
    assert cli.json("nights", "describe", newest["id"]) == newest
    (built,) = newest["recipes"]
    assert cli.json("images", "describe", built["image_id"])["name"] == recipe["name"]
    text = cli.ok("nights", "describe", newest["id"])
    assert built["job_id"] in text
    assert newest["id"] in cli.ok("nights", "list")


def test_unknown_recipe_or_night(cli: Cli) -> None:
    """A recipe or a night that does not exist is an error."""
    assert "no recipe has the id or name nobodys" in cli.refused("nights", "create", "--recipe", "nobodys")
    assert "no night" in cli.refused("nights", "describe", str(uuid4()))


def test_nightly_recipe(cli: Cli, tmp_path: Path) -> None:
    """The folder's own file, an option or an update can mark a recipe as nightly. Options override the file."""
    folder, name = tmp_path / "folder", f"cli-{uuid4().hex[:8]}"
    shutil.copytree(PLAIN_RECIPE, folder)
    own = folder / ".ims_recipe.yaml"
    own.write_text(f"name: {name}\nlinux_distribution: rocky9\nnightly: true\n")
    made = cli.json("recipes", "push", folder)
    assert (made["name"], made["linux_distribution"], made["nightly"]) == (name, "rocky9", True)
    other = cli.json("recipes", "push", folder, "--nightly", "False", "--name", f"{name}-2", "--distribution", "sles15")
    assert (other["name"], other["linux_distribution"], other["nightly"]) == (f"{name}-2", "sles15", False)
    assert cli.json("recipes", "update", f"{name}-2", "--nightly", "True")["nightly"] is True
    own.write_text("nightly: true\nschedule: hourly\n")
    assert "schedule" in cli.refused("recipes", "push", folder)
    for record in (made, other):
        cli.ok("recipes", "delete", record["id"])
