"""Faults while a user customizes an image. The job continues, or it ends with the reason and leaves nothing."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from ims import supervisord
from tests.flows.artifacts import fetch, unpack
from tests.flows.disks import MIB, small_disk
from tests.flows.leftovers import Leftovers
from tests.flows.shells import Key, address, customize, options, ssh, try_ssh
from tests.flows.waiting import wait_for
from tests.service import Service


def upper(service: Service, job: dict[str, Any]) -> Path:
    """Return the folder of the changed files."""
    return service.workspace(job["id"]) / "changes" / "upper"


def sshd(job: dict[str, Any]) -> int:
    """Return the id of the SSH server of a job."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command, mounts = (path / "cmdline").read_bytes(), (path / "mountinfo").read_text()
        except OSError:
            continue
        if command.startswith(b"sshd: /usr/sbin/sshd -D") and job["id"] in mounts:
            return int(path.name)
    raise LookupError(job["id"])


def rsync(job: dict[str, Any], key: Key, file: Path, *more: str) -> list[str]:
    """Return the command that copies a file to /opt of the image of a job."""
    remote = " ".join(["ssh", *options(job, key)])
    return ["rsync", "--partial", *more, "-e", remote, str(file), f"root@{address(job)[0]}:/opt/"]


def finish(service: Service, job: dict[str, Any], key: Key) -> dict[str, Any]:
    """Finish the shell; returns the job, which must succeed."""
    ssh(job, key, "touch /tmp/complete")
    ended = service.wait(job["id"])
    assert ended["status"] == "success", ended["reason"]
    return ended


def changed_root(service: Service, ended: dict[str, Any], folder: Path) -> Path:
    """Return the unpacked root of the image that a job created."""
    made = service.client.get(f"images/{ended['resultant_image_id']}")
    return unpack(fetch(service, made, folder)["rootfs"], folder / "root")


def test_connection_and_server_are_lost(
    service: Service, small: dict[str, Any], key: Key, leftovers: Leftovers, tmp_path: Path
) -> None:
    """A client that is killed while it copies leaves a part of the file and no process. The copy can be resumed.

    A killed sshd restarts on the same port with the same host key, and no change is lost.
    """
    file = tmp_path / "big"
    file.write_bytes(os.urandom(16 * MIB))
    job = customize(service, small, key, jail=True)
    ssh(job, key, "mkdir /opt")
    copying = subprocess.Popen(rsync(job, key, file, "--bwlimit=2m"), start_new_session=True)
    half = upper(service, job) / "opt"
    wait_for(lambda: any(path.stat().st_size > MIB for path in half.iterdir()))
    os.killpg(copying.pid, signal.SIGKILL)
    copying.wait()
    wait_for(lambda: "rsync" not in ssh(job, key, "ps"))
    assert [path.name for path in half.iterdir()] == ["big"]
    assert 0 < (half / "big").stat().st_size < file.stat().st_size

    before = service.client.get(f"jobs/{job['id']}/shell")
    os.kill(sshd(job), signal.SIGKILL)
    wait_for(lambda: try_ssh(job, key, "true").returncode != 0)
    wait_for(lambda: try_ssh(job, key, "true").returncode == 0)
    assert scanned(job) == before["fingerprint"]
    assert ssh(job, key, "ls /opt").split() == ["big"]

    done = subprocess.run(
        rsync(job, key, file, "--append-verify", "--stats"), capture_output=True, text=True, check=True
    )
    assert "Total transferred file size" in done.stdout
    ended = finish(service, job, key)
    root = changed_root(service, ended, tmp_path)
    assert hashlib.sha256((root / "opt/big").read_bytes()).digest() == hashlib.sha256(file.read_bytes()).digest()
    leftovers.assert_only_images([ended])


def scanned(job: dict[str, Any]) -> str:
    """Return the fingerprint of the current host key of the shell of a job."""
    host, port = address(job)
    keys = subprocess.run(["ssh-keyscan", "-p", str(port), host], capture_output=True, text=True, check=True).stdout
    show = ["ssh-keygen", "-l", "-E", "sha256", "-f", "-"]
    shown = subprocess.run(show, input=keys, capture_output=True, text=True, check=True).stdout
    return shown.split()[1]


def test_airflow_restarts_while_it_waits(
    service: Service, small: dict[str, Any], key: Key, leftovers: Leftovers
) -> None:
    """A marker is seen and a lease ends even if triggerer and scheduler were stopped at that time."""
    short, job = (customize(service, small, key, jail=True, lease=lease) for lease in (60, 600))
    supervisord.control(service.settings, "stop", "triggerer", "scheduler")
    ssh(job, key, "touch /tmp/complete")
    supervisord.control(service.settings, "start", "triggerer", "scheduler")
    ended = service.wait(job["id"])
    assert ended["status"] == "success", ended["reason"]
    expired = service.wait(short["id"])
    assert expired["status"] == "error"
    assert "lease ended" in expired["reason"]
    leftovers.assert_only_images([ended])
    assert not service.workspace(short["id"]).exists()


def test_s3_away_in_an_upload(
    service: Service, small: dict[str, Any], key: Key, leftovers: Leftovers, tmp_path: Path
) -> None:
    """If S3 is killed during an upload, the upload is repeated, and no part of the first one is left."""
    job = customize(service, small, key, jail=True)
    ssh(job, key, "dd if=/dev/urandom of=/etc/big bs=1M count=128; sha256sum < /etc/big > /etc/big.sha256")
    ssh(job, key, "touch /tmp/complete")
    bucket = service.settings.images_bucket
    wait_for(lambda: service.store._client.list_multipart_uploads(Bucket=bucket).get("Uploads"))
    os.kill(int(supervisord.control(service.settings, "pid", "s3")), signal.SIGKILL)
    ended = service.wait(job["id"])
    assert ended["status"] == "success", ended["reason"]
    big = changed_root(service, ended, tmp_path) / "etc/big"
    assert hashlib.sha256(big.read_bytes()).hexdigest() == big.with_suffix(".sha256").read_text().split()[0]
    leftovers.assert_only_images([ended])


def fill(folder: Path, leave: int = 0) -> None:
    """Use all space of a file system except `leave` bytes."""
    space = os.statvfs(folder)
    with (folder / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_bsize - max(leave, MIB))
        while leave == 0 and written(file.fileno()):
            pass


def written(descriptor: int) -> bool:
    """Write a block to a file; returns whether there was space for it."""
    try:
        return os.write(descriptor, bytes(4096)) > 0
    except OSError:
        return False


def test_disk_full_in_the_shell(
    service: Service, small: dict[str, Any], key: Key, leftovers: Leftovers, tmp_path: Path
) -> None:
    """The user sees the error, and can log in, delete files, continue, and give up."""
    with small_disk(service, tmp_path) as disk:
        job = customize(service, small, key, jail=True, build_env_size=1)
        assert job["status"] == "waiting_on_user", job["reason"]
        fill(disk, leave=16 * MIB)
        for _ in range(2):
            done = try_ssh(job, key, "dd if=/dev/zero of=/etc/big bs=1M count=64")
            assert "No space left on device" in done.stderr
            assert ssh(job, key, "ls -d /etc/big; cat /etc/motd").startswith("/etc/big\n")
            ssh(job, key, "rm /etc/big; echo more >> /etc/motd")
        assert ssh(job, key, "cat /etc/motd") == "before\nmore\nmore\n"
        try_ssh(job, key, "dd if=/dev/zero of=/etc/big bs=1M count=64")
        ssh(job, key, "touch /tmp/failed")
        ended = service.wait(job["id"])
        assert "given up" in ended["reason"]
    leftovers.assert_none(job["id"])


def test_disk_full_after_the_shell(
    service: Service, small: dict[str, Any], key: Key, leftovers: Leftovers, tmp_path: Path
) -> None:
    """The job ends without another try, and the reason names the full disk. A new job waits until there is space."""
    with small_disk(service, tmp_path) as disk:
        job = customize(service, small, key, jail=True, build_env_size=1)
        assert job["status"] == "waiting_on_user", job["reason"]
        fill(disk)
        service.client.create(f"jobs/{job['id']}/shell", operation="complete")
        ended = service.wait(job["id"])
        # The end of the shell frees a few blocks, so the short list of changes may still fit on the disk.
        assert ended["status"] == "error"
        assert ended["failed_step"] in ("list_changes", "package_artifacts"), ended["reason"]
        assert "No space left on device" in ended["reason"]
        fields = {"artifact_id": small["id"], "public_key_id": key.identity, "image_root_archive_name": "later"}
        script = {"script": "#!/bin/sh\n", "build_env_size": 1}
        waiting = service.client.create("jobs", job_type="customize", **script, **fields)
        reason = wait_for(lambda: service.client.get(f"jobs/{waiting['id']}")["reason"])
        assert reason.startswith(f"open_workspace: the disk of {disk} has ")
        (disk / "filler").unlink()
        made = service.wait(waiting["id"])
        assert made["status"] == "success", made["reason"]
    assert ended["resultant_image_id"] is None
    leftovers.assert_only_images([ended, made])


def test_finished_three_times_at_once(service: Service, small: dict[str, Any], key: Key, leftovers: Leftovers) -> None:
    """A marker and two requests at the same time create one image."""
    job = customize(service, small, key, jail=True)
    clients = [service.task_client(), service.task_client()]
    ways: list[Callable[[], object]] = [lambda: ssh(job, key, "touch /tmp/complete")]
    ways += [partial(client.create, f"jobs/{job['id']}/shell", operation="complete") for client in clients]
    with ThreadPoolExecutor(len(ways)) as pool:
        for asked in [pool.submit(way) for way in ways]:
            asked.result()
    ended = service.wait(job["id"])
    assert ended["status"] == "success", ended["reason"]
    assert [image["job_id"] for image in service.client.get("images")].count(job["id"]) == 1
    leftovers.assert_only_images([ended])


def test_cancelled_in_the_ui(service: Service, small: dict[str, Any], key: Key, leftovers: Leftovers) -> None:
    """If a user marks the run as failed, as in the UI, the open session is closed and nothing is left."""
    job = customize(service, small, key, jail=False)
    session = subprocess.Popen(["ssh", *options(job, key), f"root@{address(job)[0]}", "sleep 600"])
    wait_for(lambda: "sleep 600" in ssh(job, key, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"))
    answer = service.http.patch(f"/api/v2/dags/{job['dag_id']}/dagRuns/{job['dag_run_id']}", json={"state": "failed"})
    assert answer.status_code == 200
    ended = service.wait(job["id"])
    assert (ended["status"], service.run_state(ended)) == ("error", "failed")
    assert ended["reason"].startswith("cancelled by admin at ")
    assert session.wait(20) != 0
    leftovers.assert_none(job["id"])
