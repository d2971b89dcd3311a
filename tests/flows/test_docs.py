"""Runs the commands of the guides as printed, against a running service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from ims.demo import build as demo
from tests.flows.artifacts import unpack
from tests.flows.boot import run_until
from tests.flows.conftest import RECIPES
from tests.flows.debian import DebianImage
from tests.flows.rpm_repository import RepositoryServer
from tests.flows.shells import make_key
from tests.service import PUBLIC_KEY, Service

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def blocks(page: str) -> list[str]:
    """Return the blocks of shell commands of a page in docs/."""
    return re.findall(r"```bash\n(.*?)```", (PROJECT / "docs" / page).read_text(), re.DOTALL)


def run(commands: str, folder: Path) -> None:
    """Run commands of a page in `folder` instead of the checkout, with `folder` as home and in place of /tmp."""
    project, marker = str(PROJECT), "\N{WHITE SQUARE}"
    # The checkout may be below /tmp.
    commands = commands.replace(project, marker).replace("/tmp/", f"{folder}/").replace(marker, project)
    commands = commands.replace("make -s env", f"make -C {PROJECT} -s env").replace("$PWD/.venv/bin", str(BIN))
    commands = commands.replace("include/recipes", f"{PROJECT}/include/recipes")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_tutorial(service: Service, debian: DebianImage, tmp_path: Path) -> None:
    """After `make demo`, the commands of the page create an image that boots with all changes."""
    first, *others = blocks("tutorial.md")
    assert "make demo" in first
    (machine,) = [block for block in others if block.startswith("qemu-system-x86_64")]
    others.remove(machine)
    stop = "make down\n"
    assert others[-1].endswith(stop)
    run("".join(others).removesuffix(stop), tmp_path)

    (built,) = service.client.get("images", name="tutorial-1")
    files = service.client.get(f"images/{debian.record['id']}/diff/{built['id']}")["files"]
    kinds = ("added", "removed", "changed")
    assert "/etc/motd" in [change["path"] for kind in kinds for change in files[kind]["first"]]
    (changed,) = service.client.get("deleted/images", name="tutorial-3")
    added = service.client.get(f"jobs/{changed['job_id']}")["changes"]["packages_added"]["first"]
    assert {"cron:amd64", "iputils-ping:amd64"} <= {name.split()[0] for name in added}
    check_installed(unpack(tmp_path / "tutorial-image" / "rootfs", tmp_path / "root"))
    command = ["setpriv", "--pdeathsig=KILL", "--", "bash", "-c", f"exec {machine}".replace("/tmp/", f"{tmp_path}/")]
    console = run_until(command, "node1 login:", timeout=300)
    assert "Changed over SSH" in console
    assert "FAILED" not in console


def check_installed(root: Path) -> None:
    """Assert that apt-get in the jail set file capabilities, and created services, groups and set-id programs."""
    assert os.getxattr(root / "usr/bin/ping", "security.capability")
    assert (root / "etc/systemd/system/multi-user.target.wants/cron.service").is_symlink()
    crontab = (root / "usr/bin/crontab").stat()
    assert crontab.st_mode & 0o7777 == 0o2755
    assert f"crontab:x:{crontab.st_gid}:" in (root / "etc/group").read_text()


def test_create_an_image(service: Service, http_server: RepositoryServer, tmp_path: Path) -> None:
    """The commands of the page create images. The test uses a smaller recipe."""
    demo.push_recipe(service.client, service.store, service.settings)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519.pub").write_text(PUBLIC_KEY)
    variables, *others = blocks("create-an-image.md")
    smaller = f"RECIPE={RECIPES}/zypper DISTRIBUTION=sles15 VARIABLES=(--var REPOSITORY={http_server.url})\n"
    run("".join([variables, smaller, *others]), tmp_path)
    job = service.client.get(f"jobs/{json.loads((tmp_path / 'job.json').read_text())['id']}")
    assert job["status"] == "success", job["reason"]
    assert {path.name for path in (tmp_path / "my-image").iterdir()} >= {"rootfs", "kernel", "initrd", "manifest.yaml"}


def test_customize_an_image(service: Service, small: dict[str, Any], tmp_path: Path) -> None:
    """The commands of the page create four images. The test uses a smaller image."""
    (tmp_path / ".ssh").mkdir()
    make_key(service, tmp_path / ".ssh").private.rename(tmp_path / ".ssh" / "id_ed25519")
    (tmp_path / ".ssh" / "id.pub").rename(tmp_path / ".ssh" / "id_ed25519.pub")
    variables, *others = blocks("customize-an-image.md")
    run("".join([variables, f"IMAGE={small['id']}\n", *others]), tmp_path)
    for name in ("my-changed-image", "my-scripted-image", "my-ansible-image", "my-repeated-image"):
        (image,) = service.client.get("images", name=name)
        assert image["source_image_id"] == small["id"]


def test_pages_about_images(service: Service, debian: DebianImage, tmp_path: Path) -> None:
    """The commands that inspect images, plan recipes and clean up work after `make demo`."""
    service.adopt(debian.record, {"id": debian.record["source_recipe_id"], "name": "my-image"})
    for page in ("what-is-in-an-image.md", "why-it-was-built.md", "retention.md"):
        run("".join(blocks(page)), tmp_path)
    assert service.client.get(f"images/{debian.record['id']}")["pinned"]
