"""A real distribution is customized: packages are installed in the jail, and the result boots."""

from __future__ import annotations

import os
from pathlib import Path

from tests.flows.artifacts import fetch, unpack
from tests.flows.boot import boot
from tests.flows.debian import DebianImage
from tests.flows.rpm_repository import Package, RepositoryServer, build_repository
from tests.flows.shells import Key, customize, ssh
from tests.service import Service

INSTALL = "export DEBIAN_FRONTEND=noninteractive; apt-get -q update && apt-get -q -y --no-install-recommends install"

RPM_INSTALL = {
    "dnf": "dnf --repofrompath own,URL --repo own --nogpgcheck --releasever 1 -y install by-dnf",
    "zypper": "zypper -n addrepo --no-gpgcheck URL own && zypper -n install by-zypper",
}


def test_install_and_boot(service: Service, debian: DebianImage, key: Key, tmp_path: Path) -> None:
    """apt-get installs groups, set-id programs, file capabilities and services; the changes are there after booting."""
    job = customize(service, debian.record, key, jail=True)
    assert job["status"] == "waiting_on_user", job["reason"]
    ssh(job, key, f"{INSTALL} iputils-ping cron", timeout=300)
    ssh(job, key, "echo changed-by-hand > /etc/hostname; echo 'Customized over SSH' > /etc/issue")
    ssh(job, key, "touch /tmp/complete")
    ended = service.wait(job["id"])
    assert ended["status"] == "success", ended["reason"]

    files = fetch(service, service.client.get(f"images/{ended['resultant_image_id']}"), tmp_path)
    root = unpack(files["rootfs"], tmp_path / "root")
    assert os.getxattr(root / "usr/bin/ping", "security.capability")
    assert (root / "etc/systemd/system/multi-user.target.wants/cron.service").is_symlink()
    crontab = root / "usr/bin/crontab"
    assert crontab.stat().st_mode & 0o7777 == 0o2755
    assert f"crontab:x:{crontab.stat().st_gid}:" in (root / "etc/group").read_text()
    added = [name.split()[0] for name in ended["changes"]["packages_added"]["first"]]
    assert {"cron:amd64", "iputils-ping:amd64"} <= set(added)

    console = boot(files["kernel"], files["initrd"], files["rootfs"], until="changed-by-hand login:")
    assert "Customized over SSH" in console
    assert "FAILED" not in console


def test_managers_of_rpm_packages(service: Service, debian: DebianImage, key: Key, tmp_path: Path) -> None:
    """dnf and zypper in the jail install into the image that they are part of, from a repository over the network."""
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
            assert ssh(job, key, f"cat /opt/{name}") == "0\n"  # the package's own script wrote it, as root
            assert any(f"/by-{name}-" in request for request in server.requests)
    ssh(job, key, "touch /tmp/failed")
    assert service.wait(job["id"])["status"] == "error"
