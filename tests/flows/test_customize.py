"""Customize an image over SSH, with the real client, as CFS and as an administrator do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.flows.artifacts import fetch, unpack
from tests.flows.leftovers import Leftovers
from tests.flows.rpm_repository import PrivateCA
from tests.flows.shells import Key, customize, ssh
from tests.service import Service


@pytest.mark.parametrize("jail", [True, False], ids=["jailed", "unjailed"])
def test_change_and_complete(
    service: Service, image: dict[str, Any], key: Key, jail: bool, tmp_path: Path, site_ca: PrivateCA
) -> None:
    """What was changed is in the new image, and nothing of the shell; the original is as it was."""
    job = customize(service, image, key, jail=jail)
    assert job["status"] == "waiting_on_user", job["reason"]
    root, marker = ("", "/tmp/complete") if jail else ("/mnt/image/image-root", "/mnt/image/complete")
    ssh(job, key, f"echo changed > {root}/etc/motd; rm {root}/etc/flow-test-config")
    ssh(job, key, f"touch {marker}")
    ended = service.wait(job["id"])
    assert ended["status"] == "success", ended["reason"]
    assert ended["ssh_containers"][0]["status"] == "complete"
    made = service.client.get(f"images/{ended['resultant_image_id']}")
    changed = unpack(fetch(service, made, tmp_path)["rootfs"], tmp_path / "changed")
    assert (changed / "etc/motd").read_text() == "changed\n"
    assert not (changed / "etc/flow-test-config").exists()
    assert site_ca.certificate.read_text().strip() in (changed / "var/lib/ca-certificates/ca-bundle.pem").read_text()
    assert not list((changed / "tmp").iterdir())
    (tmp_path / "before").mkdir()
    original = unpack(fetch(service, image, tmp_path / "before")["rootfs"], tmp_path / "original")
    assert (original / "etc/flow-test-config").exists()
    assert names(changed) - names(original) == {"etc/motd"}


def names(root: Path) -> set[str]:
    """All paths below a root."""
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_given_up(service: Service, image: dict[str, Any], key: Key, leftovers: Leftovers) -> None:
    """`failed` ends the job in error; no image, nothing left."""
    job = customize(service, image, key, jail=True)
    ssh(job, key, "touch /tmp/failed")
    ended = service.wait(job["id"])
    assert (ended["status"], ended["failed_step"]) == ("error", "wait_for_completion")
    assert "given up" in ended["reason"]
    leftovers.assert_none(job["id"])


def test_finished_by_the_api(service: Service, image: dict[str, Any], key: Key) -> None:
    """Without a marker: POST complete; a second, other word is refused."""
    job = customize(service, image, key, jail=True)
    path = f"jobs/{job['id']}/shell"
    before = service.client.get(path)["until"]
    assert service.client.create(path, operation="extend", seconds=200000)["until"] > before
    service.client.create(path, operation="complete")
    answer = service.http.post(f"/apis/ims/v3/{path}", json={"operation": "fail"})
    assert answer.status_code == 409
    assert service.wait(job["id"])["status"] == "success"


def test_lease_ends(service: Service, image: dict[str, Any], key: Key, leftovers: Leftovers) -> None:
    """A shell that nobody finishes is closed when its time is over, and the job says so."""
    job = customize(service, image, key, jail=False, lease=60)
    ended = service.wait(job["id"], timeout=180)
    assert ended["status"] == "error"
    assert "lease ended" in ended["reason"]
    leftovers.assert_none(job["id"])


def test_cancelled_while_waiting(service: Service, image: dict[str, Any], key: Key, leftovers: Leftovers) -> None:
    """Cancelling closes the shell and removes everything."""
    job = customize(service, image, key, jail=True)
    service.client.delete(f"jobs/{job['id']}")
    assert service.wait(job["id"])["status"] == "error"
    leftovers.assert_none(job["id"])


def test_kernel_that_is_not_there(service: Service, image: dict[str, Any], key: Key) -> None:
    """The error names what is there."""
    job = customize(service, image, key, jail=True, kernel_file_name="bzImage")
    ssh(job, key, "touch /tmp/complete")
    ended = service.wait(job["id"])
    assert (ended["status"], ended["failed_step"]) == ("error", "package_artifacts")
    assert "/boot/bzImage" in ended["reason"]
