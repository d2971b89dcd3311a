"""The shipped Debian recipe becomes an image that boots."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ims.stack.demo import RECIPE
from ims.stack.host import debian_mirrors
from tests.flows.artifacts import fetch, unpack
from tests.flows.boot import boot, boot_marker
from tests.flows.rpm_repository import PrivateCA
from tests.service import Service


@dataclass
class DebianImage:
    """An image that was built, with what S3 holds of it."""

    job: dict[str, Any]
    files: dict[str, Path]
    root: Path


@pytest.fixture(scope="module")
def image(service: Service, tmp_path_factory: pytest.TempPathFactory) -> DebianImage:
    """Build the recipe as `make demo` does, from the machine's own mirror; fetch the artifacts from S3."""
    folder = tmp_path_factory.mktemp("debian")
    recipe = service.push(RECIPE, "debian12", **debian_mirrors())
    job = service.wait(service.create(recipe["id"])["id"], timeout=1200)
    assert job["status"] == "success", job["reason"]
    record = service.client.get(f"images/{job['resultant_image_id']}")
    files = fetch(service, record, folder)
    return DebianImage(job, files, unpack(files["rootfs"], folder / "root"))


def test_expected_files(image: DebianImage) -> None:
    """The packages are there, both scripts ran, and nothing of the build is in the image."""
    root = image.root
    assert (root / "usr/sbin/sshd").exists()
    assert "NAME=debian12" in (root / "etc/ims-image-release").read_text()
    assert not (root / "image").exists()
    assert not list((root / "var/lib/apt/lists").glob("*"))
    assert not list((root / "etc/ssh").glob("ssh_host_*"))
    assert (root / "etc/machine-id").read_text() == ""


def test_site_ca_is_trusted(image: DebianImage, site_ca: PrivateCA) -> None:
    """The CA came as a package, and is in the bundle that every program of the image reads."""
    status = (image.root / "var/lib/dpkg/status").read_text()
    assert "Package: site-root-ca\nStatus: install ok installed" in status
    bundle = image.root / "etc/ssl/certs/ca-certificates.crt"
    done = subprocess.run(["openssl", "verify", "-CAfile", bundle, site_ca.certificate], check=False)
    assert done.returncode == 0


def test_steps_are_shown(image: DebianImage) -> None:
    """The job tells its steps in their order, with times and logs."""
    names = [step["name"] for step in image.job["steps"]]
    assert names[:6] == [
        "open_workspace",
        "fetch_recipe",
        "wait_for_repositories",
        "build_ca_package",
        "build_image",
        "package_artifacts",
    ]
    assert all(step["started"] < step["ended"] for step in image.job["steps"])


def test_kernel_mounts_the_rootfs(image: DebianImage, tmp_path: Path) -> None:
    """The kernel finds the system in the rootfs that S3 holds."""
    console = boot_marker(image.files["kernel"], image.files["rootfs"], tmp_path)
    assert "Debian GNU/Linux 12" in console


def test_boots_to_a_login(image: DebianImage) -> None:
    """Kernel, initrd and rootfs from S3 boot to the login prompt, and no unit fails."""
    console = boot(image.files["kernel"], image.files["initrd"], image.files["rootfs"], until="login:")
    assert "FAILED" not in console
