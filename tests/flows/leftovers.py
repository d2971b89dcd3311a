"""What a job could leave behind on this machine and in S3."""

from __future__ import annotations

import time
from pathlib import Path

from tests.service import Service


def mounts() -> set[str]:
    """Mount points of this machine."""
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def loop_devices() -> set[str]:
    """Files that loop devices show."""
    return {path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")}


def processes(home: Path) -> set[str]:
    """Command lines of processes that name one of the installation's workspaces or have their root in one."""
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
        """Nothing is left of a failed job: no mount, loop device, process, workspace, object, upload or record."""
        deadline = time.monotonic() + 20
        while (more := self._more()) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert more == {}
        assert not self.service.workspace(job_id).exists()
        assert self.service.client.get(f"jobs/{job_id}")["resultant_image_id"] is None

    def _more(self) -> dict[str, set[str]]:
        """What is there now and was not before. What is there no longer belonged to somebody else."""
        now = self._state()
        return {kind: more for kind in now if (more := now[kind] - self.before[kind])}

    def _state(self) -> dict[str, set[str]]:
        client, bucket = self.service.store._client, self.service.settings.images_bucket
        objects = client.list_objects_v2(Bucket=bucket).get("Contents", [])
        uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return {
            "mounts": mounts(),
            # Those of the installation: others may be at work on this machine.
            "loop devices": {file for file in loop_devices() if str(self.service.settings.home) in file},
            "processes": processes(self.service.settings.home),
            "objects": {item["Key"] for item in objects},
            "uploads": {item["UploadId"] for item in uploads},
            "images": {image["id"] for image in self.service.client.get("images")},
        }
