"""Package managers in the jail of a real distribution. test_tutorial in test_docs.py boots the result."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from ims.cli.pulling import NOT_CAPTURED, PLAYBOOK, SCRIPT, capture
from tests.flows.artifacts import fetch
from tests.flows.debian import DebianImage
from tests.flows.rpm_repository import Package, RepositoryServer, build_repository
from tests.flows.shells import Key, customize, ssh
from tests.flows.test_customize_scripted import run, upload
from tests.service import Service

INSTALL = "export DEBIAN_FRONTEND=noninteractive; apt-get -q update && apt-get -q -y --no-install-recommends install"

RPM_INSTALL = {
    "dnf": "dnf --repofrompath own,URL --repo own --nogpgcheck --releasever 1 -y install by-dnf",
    "zypper": "zypper -n addrepo --no-gpgcheck URL own && zypper -n install by-zypper",
}

SESSION = f"""
set -e
{INSTALL} cron
apt-get -q -y purge curl
useradd -m -s /bin/bash -c 'Ann O. Nym' ann
usermod -a -G users ann
echo ann:secret | chpasswd
echo changed >/etc/motd
echo '# edited' >>/etc/crontab
head -c 3000 /dev/urandom >/etc/blob
cat >/etc/systemd/system/hello.service <<'UNIT'
[Service]
ExecStart=/bin/true

[Install]
WantedBy=multi-user.target
UNIT
systemctl enable hello.service
systemctl mask cron.service
rm -r /usr/share/doc/bash
touch /tmp/complete
"""


def test_captured_session(service: Service, debian: DebianImage, key: Key, tmp_path: Path) -> None:
    """The script of a session makes the same image of the same parent, except for what it lists."""
    job = customize(service, debian.record, key, jail=True)
    ssh(job, key, SESSION, timeout=300)
    made = ended_image(service, service.wait(job["id"]))
    capture(service.store, made, tmp_path / "captured")
    script = (tmp_path / "captured" / SCRIPT).read_text()
    for line in ("systemctl enable hello.service", "systemctl mask cron.service", "rm -rf /usr/share/doc/bash"):
        assert line in script
    assert "/usr/sbin/cron" not in script  # the package brings it
    playbook = upload(service, **{PLAYBOOK: (tmp_path / "captured" / PLAYBOOK).read_text(), SCRIPT: script})
    again = ended_image(service, run(service, debian.record, playbook=playbook))
    packages = service.client.get(f"images/{made['id']}/diff/{again['id']}")["packages"]
    assert packages == {"added": [], "removed": [], "changed": []}
    notes = (tmp_path / "captured" / NOT_CAPTURED).read_text()
    assert "/etc/shadow: the password of ann" in notes
    names = tuple(line.partition(": ")[0] for line in notes.splitlines())
    (tmp_path / "again").mkdir()
    before, after = listed(fetch(service, made, tmp_path)), listed(fetch(service, again, tmp_path / "again"))
    different = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert {path for path in different if not path.startswith(names)} == set(), notes


def ended_image(service: Service, job: dict[str, Any]) -> dict[str, Any]:
    """Return the image that a job made."""
    assert job["status"] == "success", job["reason"]
    return dict(service.client.get(f"images/{job['resultant_image_id']}"))


def listed(files: dict[str, Path]) -> dict[str, Any]:
    """Return the files of an image by path."""
    with gzip.open(files["files.jsonl.gz"], "rt") as lines:
        return {file["path"]: file for file in map(json.loads, lines)}


def test_managers_of_rpm_packages(service: Service, debian: DebianImage, key: Key, tmp_path: Path) -> None:
    """dnf and zypper in the jail install packages from a repository on the network into their own image."""
    packages = [
        Package(f"by-{name}", files={f"/opt/{name}": b""}, post=f"echo $(id -u) > /opt/{name}", provides=("/bin/sh",))
        for name in RPM_INSTALL
    ]
    repository = build_repository(tmp_path / "repository", packages)
    job = customize(service, debian.record, key, jail=True)
    ssh(job, key, f"{INSTALL} {' '.join(RPM_INSTALL)}", timeout=300)
    with RepositoryServer(repository) as server:
        for name, command in RPM_INSTALL.items():
            ssh(job, key, command.replace("URL", server.url))
            assert ssh(job, key, f"cat /opt/{name}") == "0\n"  # written by the script of the package, as root
            assert any(f"/by-{name}-" in request for request in server.requests)
    ssh(job, key, "touch /tmp/failed")
    assert service.wait(job["id"])["status"] == "error"
