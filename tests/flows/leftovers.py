"""Finds what jobs leave behind on this machine and in S3."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.flows.shells import address
from tests.service import Service


def mounts() -> set[str]:
    """Return the mount points of this machine."""
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def loop_devices() -> set[str]:
    """Return the files behind loop devices."""
    found = set()
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # another test has just detached it
            found.add(path.read_text().strip())
    return found


def processes(home: Path) -> set[str]:
    """Return the command lines of processes that name a workspace of the installation or have their root in one."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            root = str(path.with_name("root").readlink())
        except OSError:
            continue
        if f"{home}/workspaces/" in command + root:
            found.add(command)
    return found


class Leftovers:
    """Compares the state before a job with the state after it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.before = self._state()

    def assert_none(self, job_id: str) -> None:
        """Assert that a failed job left no mount, loop device, process, port, workspace, object, upload or record."""
        job = self.service.client.get(f"jobs/{job_id}")
        more = self._settled(set())
        assert more == {}, more
        self._assert_closed(job)
        assert job["resultant_image_id"] is None

    def assert_only_images(self, jobs: list[dict[str, Any]]) -> None:
        """Assert that each of these jobs left its image with its objects, if it made one, and nothing else."""
        images = {job["resultant_image_id"] for job in jobs} - {None}
        more = self._settled(images)
        assert more == {"images": images}, more
        for job in jobs:
            self._assert_closed(job)

    def _settled(self, images: set[str]) -> dict[str, set[str]]:
        """Return what is new, without the objects of `images`, after at most 20 s for the clean-up to end."""
        expected = {"images": images} if images else {}
        deadline = time.monotonic() + 20
        while (more := self._more(images)) != expected and time.monotonic() < deadline:
            time.sleep(0.5)
        return more

    def _assert_closed(self, job: dict[str, Any]) -> None:
        assert not self.service.workspace(job["id"]).exists()
        assert not list(self.service.settings.home.glob(f"run/services/*{job['id']}*"))
        assert not list(self.service.settings.home.glob(f"cache/images/{job['id']}*"))
        for shell in job["ssh_containers"] or ():
            if shell["connection_info"]:
                with socket.socket() as probe:
                    assert probe.connect_ex(address(job)) != 0

    def _more(self, images: set[str]) -> dict[str, set[str]]:
        """Return what exists now and did not exist before. What disappeared belonged to other jobs."""
        now = self._state()
        now["objects"] = {name for name in now["objects"] if name.split("/")[0] not in images}
        return {kind: more for kind in now if (more := now[kind] - self.before[kind])}

    def _state(self) -> dict[str, set[str]]:
        client, bucket = self.service.store._client, self.service.settings.images_bucket
        objects = client.list_objects_v2(Bucket=bucket).get("Contents", [])
        uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return {
            # Only those of the installation, because other installations may run on this machine.
            "mounts": {folder for folder in mounts() if str(self.service.settings.home) in folder},
            "loop devices": {file for file in loop_devices() if str(self.service.settings.home) in file},
            "processes": processes(self.service.settings.home),
            "objects": {item["Key"] for item in objects},
            "uploads": {item["UploadId"] for item in uploads},
            "images": {image["id"] for image in self.service.client.get("images")},
        }
