"""A real distribution is customized: packages are installed in the jail, and the result boots."""

from __future__ import annotations

import os
from pathlib import Path

from tests.flows.artifacts import fetch, unpack
from tests.flows.boot import boot
from tests.flows.debian import DebianImage
from tests.flows.shells import Key, customize, ssh
from tests.service import Service

INSTALL = "export DEBIAN_FRONTEND=noninteractive; apt-get -q update && apt-get -q -y --no-install-recommends install"


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
