"""Ten administrators who customize one image at the same time."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.flows.artifacts import fetch
from tests.flows.leftovers import Leftovers
from tests.flows.shells import Key, address, make_key, ssh, start, try_ssh
from tests.service import Service

COUNT = 10


def test_ten_shells(service: Service, small: dict[str, Any], leftovers: Leftovers, tmp_path: Path) -> None:
    """Ten open shells have their own ports, host keys and changes, do not see each other, and become ten images."""
    keys = [make_key(service, folder) for folder in folders(tmp_path)]
    started = [start(service, small, key, jail=number % 2 == 0) for number, key in enumerate(keys)]
    jobs = [service.wait(job["id"], until=("waiting_on_user", "error")) for job in started]
    assert {service.client.get(f"jobs/{job['id']}")["status"] for job in jobs} == {"waiting_on_user"}
    assert len({address(job) for job in jobs}) == COUNT
    assert len({job["ssh_containers"][0]["fingerprint"] for job in jobs}) == COUNT

    on_each(lambda job, key: ssh(job, key, f"echo {job['id']} > {root(job)}/etc/motd"), jobs, keys)
    on_each(lambda job, key: ssh(job, key, f"sh -c 'sleep 600; : {job['id']}' >/dev/null 2>&1 &"), jobs, keys)
    everybody = {job["id"] for job in jobs}
    on_each(lambda job, key: check_alone(job, key, everybody), jobs, keys)
    for job, key in zip(jobs, keys[1:] + keys[:1], strict=True):
        refused = try_ssh(job, key, "true")
        assert (refused.returncode, "Permission denied" in refused.stderr) == (255, True)

    on_each(lambda job, key: ssh(job, key, f"touch {'/tmp' if jailed(job) else '/mnt/image'}/complete"), jobs, keys)
    ended = [service.wait(job["id"]) for job in jobs]
    assert {job["reason"] for job in ended} == {None}
    assert len({job["resultant_image_id"] for job in ended}) == COUNT
    for job, folder in zip(ended, folders(tmp_path / "made"), strict=True):
        image = service.client.get(f"images/{job['resultant_image_id']}")
        show = ["unsquashfs", "-cat", str(fetch(service, image, folder)["rootfs"]), "etc/motd"]
        assert subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip() == job["id"]
    leftovers.assert_only_images(ended)


def check_alone(job: dict[str, Any], key: Key, others: set[str]) -> None:
    """Assert that files, processes, environments and mounts in a shell name no other job."""
    processes = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ /proc/[0-9]*/mountinfo | tr '\\0' '\\n'"
    seen = ssh(job, key, f"({processes}; find / -xdev; cat /etc/motd {root(job)}/etc/motd) 2>/dev/null; true")
    assert f"sleep 600; : {job['id']}" in seen
    assert not [other for other in others - {job["id"]} if other in seen]


def on_each(what: Callable[[dict[str, Any], Key], object], jobs: list[dict[str, Any]], keys: list[Key]) -> None:
    """Call a function for every shell at the same time."""
    with ThreadPoolExecutor(COUNT) as pool:
        list(pool.map(what, jobs, keys))


def folders(parent: Path) -> list[Path]:
    """Create and return a folder for each job."""
    made = [parent / str(number) for number in range(COUNT)]
    for folder in made:
        folder.mkdir(parents=True)
    return made


def jailed(job: dict[str, Any]) -> bool:
    """Return whether the shell of a job is jailed."""
    return bool(job["ssh_containers"][0]["jail"])


def root(job: dict[str, Any]) -> str:
    """Return the path of the image root in the shell of a job."""
    return "" if jailed(job) else "/mnt/image/image-root"
