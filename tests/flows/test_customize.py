"""Customizing an image over SSH with the real client, as administrators and CFS do."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.flows.artifacts import fetch, unpack
from tests.flows.leftovers import Leftovers
from tests.flows.rpm_repository import PrivateCA
from tests.flows.shells import Key, customize, ssh, start
from tests.flows.waiting import wait_for
from tests.service import Service

pytestmark = pytest.mark.kubernetes


@pytest.mark.parametrize("jail", [True, False], ids=["jailed", "unjailed"])
def test_change_and_complete(
    service: Service, image: dict[str, Any], key: Key, jail: bool, tmp_path: Path, site_ca: PrivateCA
) -> None:
    """The new image has the changes and no files of the shell. The original image is unchanged."""
    started = start(service, image, key, jail=jail)
    job = service.wait(started["id"], until=("waiting_on_user", "error"))
    assert job["status"] == "waiting_on_user", job["reason"]
    announced, opened = (found["ssh_containers"][0]["connection_info"] for found in (started, job))
    assert set(announced) == set(opened) == {"customer_access", "cluster.local"}
    assert announced == opened or service.settings.runtime == "kubernetes"
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
    """Return all paths below a root."""
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_as_cfs_does(service: Service, small: dict[str, Any], tmp_path: Path) -> None:
    """CFS uses paths without a version, deletes its key while the shell is open, and waits for the id of the image."""

    def call(method: str, path: str, **body: Any) -> Any:
        answer = service.http.request(method, f"/apis/ims/{path}", json=body or None)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "3072", "-N", "", "-f", tmp_path / "id"], check=True)
    name = f"cfs-{uuid4()}"
    registered = call("POST", "public-keys", name=name, public_key=(tmp_path / "id.pub").read_text())["id"]
    asked = {"public_key_id": registered, "artifact_id": small["id"], "image_root_archive_name": name}
    shell = {"name": "customize", "jail": True}
    path = f"jobs/{call('POST', 'jobs', job_type='customize', **asked, ssh_containers=[shell])['id']}"
    wait_for(lambda: call("GET", path)["status"] == "waiting_on_user", 600, pause=1)
    call("DELETE", f"public-keys/{registered}")
    job, key = call("GET", path), Key(tmp_path / "id", registered)
    ssh(job, key, "echo by cfs > /etc/motd")
    ssh(job, key, "touch /tmp/complete")
    wait_for(lambda: call("GET", path)["resultant_image_id"], 600, pause=1)
    ended = service.wait(job["id"])
    assert ended["status"] == "success", ended["reason"]
    made = call("GET", f"images/{ended['resultant_image_id']}")
    assert (made["name"], made["source_image_id"]) == (name, small["id"])
    files = fetch(service, made, tmp_path)
    assert (unpack(files["rootfs"], tmp_path / "root") / "etc/motd").read_text() == "by cfs\n"


def test_given_up(service: Service, image: dict[str, Any], key: Key, leftovers: Leftovers) -> None:
    """The marker `failed` ends the job in error. It creates no image and leaves nothing."""
    job = customize(service, image, key, jail=True)
    ssh(job, key, "touch /tmp/failed")
    ended = service.wait(job["id"])
    assert (ended["status"], ended["failed_step"]) == ("error", "wait_for_completion")
    assert "given up" in ended["reason"]
    leftovers.assert_none(job["id"])


def test_finished_by_the_api(service: Service, image: dict[str, Any], key: Key) -> None:
    """`complete` ends the shell without a marker; a different operation after it is refused."""
    job = customize(service, image, key, jail=True)
    path = f"jobs/{job['id']}/shell"
    before = service.client.get(path)["until"]
    assert service.client.create(path, operation="extend", seconds=200000)["until"] > before
    service.client.create(path, operation="complete")
    answer = service.http.post(f"/apis/ims/v3/{path}", json={"operation": "fail"})
    assert answer.status_code == 409
    assert service.wait(job["id"])["status"] == "success"


def test_lease_ends(service: Service, image: dict[str, Any], key: Key, leftovers: Leftovers) -> None:
    """An unfinished shell is closed when its lease ends, which is the reason of the job."""
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


def test_missing_kernel(service: Service, image: dict[str, Any], key: Key) -> None:
    """Neither the marker nor the API ends the shell before the kernel is there; the reason of the job names it."""
    job = customize(service, image, key, jail=True, kernel_file_name="bzImage")
    ssh(job, key, "touch /tmp/complete; while test -e /tmp/complete; do sleep 0.1; done")
    path = f"jobs/{job['id']}/shell"
    service.client.create(path, operation="complete")
    wait_for(lambda: service.client.get(path)["operation"] is None, 60)
    job = service.wait(job["id"], until=("waiting_on_user", "error"))
    assert job["reason"].startswith("wait_for_completion: the shell was not finished. The image has no /boot/bzImage.")
    ssh(job, key, "ln -s vmlinuz /boot/bzImage")
    service.client.create(path, operation="complete")
    ended = service.wait(job["id"])
    assert ended["status"] == "success", ended["reason"]
    assert service.client.get(path)["operation"] == "complete"
