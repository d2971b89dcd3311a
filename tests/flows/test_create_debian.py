"""The shipped Debian recipe becomes an image that boots."""

from __future__ import annotations

import subprocess
from itertools import groupby
from pathlib import Path

import pytest

from ims.workflows import CREATE_IMAGE
from tests.flows.boot import boot, boot_marker
from tests.flows.debian import DebianImage
from tests.flows.rpm_repository import PrivateCA
from tests.service import Service

pytestmark = pytest.mark.kubernetes


def test_expected_files(debian: DebianImage) -> None:
    """The image has the packages and the results of both scripts, and no files of the build."""
    root = debian.root
    assert (root / "usr/sbin/sshd").exists()
    assert "NAME=debian12" in (root / "etc/ims-image-release").read_text()
    assert not (root / "image").exists()
    assert not list((root / "var/lib/apt/lists").glob("*"))
    assert not list((root / "etc/ssh").glob("ssh_host_*"))
    assert (root / "etc/machine-id").read_text() == ""


def test_inventory(service: Service, debian: DebianImage) -> None:
    """The record has the number of packages and the kernel; the SBOM and the list of files are artifacts."""
    status = (debian.root / "var/lib/dpkg/status").read_text()
    assert debian.record["package_count"] == status.count("\nStatus: install ok installed\n")
    assert debian.record["kernels"] == [path.name for path in (debian.root / "usr/lib/modules").iterdir()]
    assert {"sbom.cdx.json", "files.jsonl.gz"} <= set(debian.files)
    held = {item["name"]: item for item in service.client.get(f"images/{debian.record['id']}/packages")}
    assert held["bash"]["license"]


def test_site_ca_is_trusted(debian: DebianImage, site_ca: PrivateCA) -> None:
    """The CA is installed as a package, and is in the bundle that the programs of the image read."""
    status = (debian.root / "var/lib/dpkg/status").read_text()
    assert "Package: site-root-ca\nStatus: install ok installed" in status
    bundle = debian.root / "etc/ssl/certs/ca-certificates.crt"
    done = subprocess.run(["openssl", "verify", "-CAfile", bundle, site_ca.certificate], check=False)
    assert done.returncode == 0


def test_steps_are_shown(debian: DebianImage) -> None:
    """The job lists the tasks of the table in its order, with their times; a mapped task has several entries."""
    steps = debian.job["steps"]
    names = [step["name"].partition("[")[0] for step in steps]
    assert [name for name, _ in groupby(names)] == [task.id for task in CREATE_IMAGE.tasks]
    done = [step for step in steps if step["state"] != "skipped"]
    assert all(step["started"] < step["ended"] for step in done)
    skipped = {step["name"] for step in steps if step["state"] == "skipped"}
    assert skipped == {task.id for task in CREATE_IMAGE.tasks if task.optional}


def test_kernel_mounts_the_rootfs(debian: DebianImage, tmp_path: Path) -> None:
    """The kernel from S3 mounts the rootfs from S3."""
    console = boot_marker(debian.files["kernel"], debian.files["rootfs"], tmp_path)
    assert "Debian GNU/Linux 12" in console


def test_boots_to_a_login(debian: DebianImage) -> None:
    """Kernel, initrd and rootfs from S3 boot to the login prompt, and no unit of systemd fails."""
    console = boot(debian.files["kernel"], debian.files["initrd"], debian.files["rootfs"], until="login:")
    assert "FAILED" not in console
