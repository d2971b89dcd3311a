"""The commands of Cray's "Image Management Workflows" work with `ims` in place of `cray ims`."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import IMS, Cli, Key
from tests.service import Service

LIST_RECIPES = """\
ims recipes list
"""
UPLOAD_KEY = """\
ims public-keys create --name "username public key" --public-key ~/.ssh/id_rsa.pub
"""
CREATE = """\
ims jobs create \\
    --job-type create \\
    --image-root-archive-name cray-sles15-barebones \\
    --artifact-id $IMS_RECIPE_ID \\
    --public-key-id $IMS_PUBLIC_KEY_ID \\
    --enable-debug False
"""
LIST_IMAGES = """\
ims images list
"""
CUSTOMIZE = """\
ims jobs create \\
    --job-type customize \\
    --image-root-archive-name my_customized_image \\
    --kernel-file-name vmlinuz \\
    --initrd-file-name initrd \\
    --artifact-id $IMS_IMAGE_ID \\
    --public-key-id $IMS_PUBLIC_KEY_ID \\
    --enable-debug False
"""


@pytest.fixture
def administrator(cli: Cli, key: Key, tmp_path: Path) -> Cli:
    """The program, run by a user whose key is in the folder of ssh."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_rsa.pub").write_text(key.private.with_suffix(".pub").read_text())
    return cli.with_variables(HOME=str(tmp_path), PATH=f"{IMS.parent}:{cli.environment['PATH']}")


def run(who: Cli, commands: str, **variables: str) -> str:
    """Run commands in a shell; returns their output."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        env={**who.environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def newest_job(who: Cli, name: str) -> dict[str, Any]:
    """Return the newest job for an image of this name."""
    return dict([job for job in who.json("jobs", "list") if job["image_root_archive_name"] == name][-1])


def test_both_workflows(administrator: Cli, service: Service, recipe: dict[str, Any], key: Key) -> None:
    """The commands create and customize an image as the document describes."""
    assert recipe["id"] in run(administrator, LIST_RECIPES)
    run(administrator, UPLOAD_KEY)
    keys = administrator.json("public-keys", "list", "--name", "username public key")
    variables = {"IMS_RECIPE_ID": recipe["id"], "IMS_PUBLIC_KEY_ID": keys[-1]["id"]}
    assert "create" in run(administrator, CREATE, **variables)
    created = service.wait(newest_job(administrator, "cray-sles15-barebones")["id"])
    assert created["status"] == "success", created["reason"]
    image = created["resultant_image_id"]
    assert image in run(administrator, LIST_IMAGES)
    run(administrator, UPLOAD_KEY)
    run(administrator, CUSTOMIZE, **variables, IMS_IMAGE_ID=image)
    job = newest_job(administrator, "my_customized_image")
    login = ("jobs", "shell", job["id"], "-i", str(key.private), "--")
    administrator.ok(*login, "touch /mnt/image/complete")
    customized = service.wait(job["id"])
    assert customized["status"] == "success", customized["reason"]
    assert customized["resultant_image_id"] != image
