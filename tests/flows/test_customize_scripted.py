"""Customizing an image by a script and by Ansible, and the list of changes."""

from __future__ import annotations

import gzip
import json
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from ims.files import file_digest
from ims.storage.objects import ObjectName
from tests.flows.artifacts import fetch, unpack
from tests.flows.leftovers import Leftovers
from tests.service import Service

pytestmark = pytest.mark.kubernetes

SCRIPT = """\
#!/bin/sh -e
echo "this is $(id -u) in $(pwd)"
echo changed > /etc/motd
echo new > /etc/issue
rm /usr/sbin/getcap
touch /tmp/left
"""
PLAYBOOK = """\
- hosts: image
  gather_facts: false
  tasks:
    - name: Say hello
      ansible.builtin.raw: "{{ lookup('file', 'command') }}"
    - name: Look for secrets where Ansible runs
      ansible.builtin.shell: ls -d {{ home }}/secrets
      delegate_to: localhost
      register: secrets
      failed_when: secrets.rc == 0
"""


def post(service: Service, image: dict[str, Any], **fields: Any) -> httpx.Response:
    """Request a customize job; returns the response."""
    body = {
        "job_type": "customize",
        "artifact_id": image["id"],
        "public_key_id": service.public_key(),
        "image_root_archive_name": f"scripted-{uuid4().hex[:8]}",
        **fields,
    }
    return service.http.post("/apis/ims/v3/jobs", json=body)


def run(service: Service, image: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Run a customize job; returns it when it has ended."""
    answer = post(service, image, **fields)
    assert answer.status_code == 201, answer.text
    return service.wait(answer.json()["id"])


def log_of(service: Service, job: dict[str, Any], task: str) -> str:
    """Return the log of the first try of a task, as Airflow shows it."""
    path = f"/api/v2/dags/{job['dag_id']}/dagRuns/{job['dag_run_id']}/taskInstances/{task}/logs/1"
    return str(service.http.get(path).text)


def upload(service: Service, **members: str) -> str:
    """Upload an archive with these members to S3; returns its address."""
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, BytesIO(text.encode()))
    address = ObjectName(service.settings.recipes_bucket, f"playbooks/{uuid4()}.tar.gz")
    service.store.write_bytes(address, packed.getvalue())
    return str(address)


def test_script(service: Service, small: dict[str, Any], tmp_path: Path) -> None:
    """No shell opens. The new image has the changes; the job, the record and an artifact list them."""
    job = run(service, small, script=SCRIPT)
    assert job["status"] == "success", job["reason"]
    assert job["ssh_containers"] is None
    assert {step["name"]: step["state"] for step in job["steps"]}["start_shell"] == "skipped"
    assert "this is 0 in /root" in log_of(service, job, "run_script")
    made = service.client.get(f"images/{job['resultant_image_id']}")
    assert made["source_image_id"] == small["id"]
    assert made["changes"] == job["changes"]
    counts = {name: (names["count"], names["first"]) for name, names in made["changes"].items() if names["count"]}
    assert counts == {
        "files_added": (1, ["/etc/issue"]),
        "files_changed": (1, ["/etc/motd"]),
        "files_removed": (1, ["/usr/sbin/getcap"]),
    }
    assert (made["package_count"], made["kernels"]) == (None, [])  # the image has no package manager
    files = fetch(service, made, tmp_path)
    assert json.loads(files["customization.json"].read_text())["parameters"]["script"] == SCRIPT
    assert file_digest(files["customization.json"]) == made["customization_digest"]
    with gzip.open(files["files.jsonl.gz"], "rt") as lines:
        listed = {json.loads(line)["path"] for line in lines}
    assert "/etc/issue" in listed
    assert "/usr/sbin/getcap" not in listed
    assert files["changes.txt"].read_text().splitlines() == [
        "file added: /etc/issue",
        "file changed: /etc/motd",
        "file removed: /usr/sbin/getcap",
    ]
    root = unpack(files["rootfs"], tmp_path / "root")
    assert (root / "etc/motd").read_text() == "changed\n"
    assert not list((root / "tmp").iterdir())


def test_script_that_fails(service: Service, small: dict[str, Any], leftovers: Leftovers) -> None:
    """The job fails with the last line of the script as its reason, and leaves nothing."""
    job = run(service, small, script="echo about to fail; echo so sorry >&2; exit 3")
    assert (job["status"], job["failed_step"]) == ("error", "run_script")
    assert "exit code 3: so sorry" in job["reason"]
    leftovers.assert_none(job["id"])


def test_playbook(service: Service, small: dict[str, Any], tmp_path: Path) -> None:
    """Ansible changes the image over SSH. Tasks on its own host do not see the installation."""
    playbook = PLAYBOOK.replace("{{ home }}", str(service.settings.home))
    address = upload(service, **{"site.yml": playbook, "files/command": "echo by ansible > /etc/motd"})
    job = run(service, small, playbook=address)
    assert job["status"] == "success", job["reason"]
    assert "TASK [Say hello]" in log_of(service, job, "run_script")
    assert job["changes"]["files_changed"]["first"] == ["/etc/motd"]
    files = fetch(service, service.client.get(f"images/{job['resultant_image_id']}"), tmp_path)
    assert json.loads(files["customization.json"].read_text())["playbook"] == file_digest(files["playbook.tar.gz"])
    assert (unpack(files["rootfs"], tmp_path / "root") / "etc/motd").read_text() == "by ansible\n"


def test_playbook_that_fails(service: Service, small: dict[str, Any], leftovers: Leftovers) -> None:
    """The job fails with Ansible's reason."""
    address = upload(
        service, **{"site.yml": "- hosts: image\n  gather_facts: false\n  tasks: [{fail: {msg: so it is}}]\n"}
    )
    job = run(service, small, playbook=address)
    assert (job["status"], job["failed_step"]) == ("error", "run_script")
    assert "so it is" in job["reason"]
    leftovers.assert_none(job["id"])


def test_archive_without_a_playbook(service: Service, small: dict[str, Any]) -> None:
    """The error names the missing file."""
    job = run(service, small, playbook=upload(service, **{"play/site.yml": "[]"}))
    assert (job["status"], job["failed_step"]) == ("error", "run_script")
    assert "no site.yml at its root, but play/site.yml" in job["reason"]


@pytest.mark.parametrize(
    ("fields", "status", "word"),
    [
        ({"script": "true", "playbook": "s3://ims/x"}, 422, "both"),
        ({"script": ""}, 422, "script"),
        ({"script": "x" * 8193}, 422, "script"),
        ({"script": "a\0b"}, 422, "script"),
        ({"playbook": "/etc/passwd"}, 422, "playbook"),
        ({"playbook": "s3://ims/x", "playbook_sha256": "0" * 63}, 422, "playbook_sha256"),
        ({"playbook": "s3://ims/nothing.tar.gz"}, 400, "nothing.tar.gz"),
        ({"playbook": "s3://boot-images/nothing.tar.gz"}, 400, "not in the bucket ims"),
    ],
)
def test_refused(service: Service, small: dict[str, Any], fields: dict[str, str], status: int, word: str) -> None:
    """The IMS API and Airflow's API refuse the job and create no run."""
    before = len(service.client.get("jobs"))
    answer = post(service, small, **fields)
    assert (answer.status_code, word in answer.json()["detail"]) == (status, True), answer.text
    conf = {"artifact_id": small["id"], "public_key_id": service.public_key(), "image_root_archive_name": "x", **fields}
    answer = service.http.post("/api/v2/dags/customize_image/dagRuns", json={"logical_date": None, "conf": conf})
    assert answer.status_code == status, answer.text
    assert len(service.client.get("jobs")) == before
