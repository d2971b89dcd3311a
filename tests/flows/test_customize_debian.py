"""Package managers in the jail of a real distribution. test_tutorial in test_docs.py boots the result."""

from __future__ import annotations

from pathlib import Path

from tests.flows.debian import DebianImage
from tests.flows.rpm_repository import Package, RepositoryServer, build_repository
from tests.flows.shells import Key, customize, ssh
from tests.service import Service

INSTALL = "export DEBIAN_FRONTEND=noninteractive; apt-get -q update && apt-get -q -y --no-install-recommends install"

RPM_INSTALL = {
    "dnf": "dnf --repofrompath own,URL --repo own --nogpgcheck --releasever 1 -y install by-dnf",
    "zypper": "zypper -n addrepo --no-gpgcheck URL own && zypper -n install by-zypper",
}


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
