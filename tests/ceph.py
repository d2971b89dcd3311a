"""A real Ceph for tests: one monitor, one disk in memory, and the RADOS Gateway over TLS.

TLS matters: over https, but not over http, the gateway rejects every write whose body has a trailing checksum.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx

from ims.storage.objects import ObjectStore
from tests.flows.rpm_repository import ServerCertificate
from tests.running import quietly

ADDRESS = os.environ.get("IMS_HOST", "127.0.0.1")
START_SECONDS = 60
DISK_BYTES = 8 * 1024**3
_KEYS = {
    "mon.": ("mon", "allow *"),
    "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
    "osd.0": ("mon", "allow profile osd", "mgr", "allow profile osd", "osd", "allow *"),
    "client.rgw": ("mon", "allow rw", "osd", "allow rwx"),
}
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon_host = v2:{address}:{monitor_port}
public_addr = {address}
cluster_addr = {address}
keyring = {folder}/keyring
run_dir = {folder}/run
pid_file = {folder}/run/$name.pid
admin_socket = {folder}/run/$name.asok
log_file = {folder}/log/$name.log
crash_dir = {folder}/log
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_data_avail_warn = 2
mon_data_avail_crit = 1
ms_bind_ipv6 = false

[mon]
mon_data = {folder}/mon
mon_cluster_log_file = {folder}/log/cluster.log
paxos_propose_interval = 0.05
paxos_min_wait = 0.01

[osd]
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = {disk_bytes}
osd_class_load_list = *
osd_class_default_list = *

[client]
rgw_data = {folder}/rgw
rgw_frontends = beast ssl_endpoint={address}:{port} ssl_certificate={certificate} ssl_private_key={key}
rgw_dns_name = localhost
rgw_s3_auth_use_sts = true
rgw_sts_key = {session_key}
"""
ROLE = "arn:aws:iam:::role/ims"
READ_ROLE = "arn:aws:iam:::role/ims-read"
# A client with the role still counts as the user that assumed it, so the role must not be allowed to assume itself.
_TRUST = [
    {"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/ims"]}, "Action": ["sts:AssumeRole"]},
    {"Effect": "Deny", "Principal": {"AWS": [ROLE, READ_ROLE]}, "Action": ["sts:AssumeRole"]},
]
_RIGHTS = {
    "ims": ["s3:*"],
    "ims-read": ["s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation", "s3:ListAllMyBuckets"],
}


class CephGateway:
    """Runs inside a `with` statement; afterwards only its folder is left. `stop` and `start` simulate an outage."""

    def __init__(self, folder: Path, certificate: ServerCertificate, port: int, monitor_port: int) -> None:
        self.folder = folder
        self.url = f"https://{ADDRESS}:{port}"
        self.access_key, self.secret_key = token_hex(10), token_hex(20)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("mon", "osd", "rgw", "run", "log"):
            (folder / name).mkdir(parents=True)
        self._fsid, self._monitor = str(uuid4()), f"[v2:{ADDRESS}:{monitor_port}]"
        (folder / "ceph.conf").write_text(
            _CONFIGURATION.format(
                folder=folder,
                fsid=self._fsid,
                address=ADDRESS,
                monitor_port=monitor_port,
                disk_bytes=DISK_BYTES,
                port=port,
                certificate=certificate.certificate,
                key=certificate.key,
                session_key=token_hex(8),
            )
        )

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def make_buckets(self, buckets: Sequence[str]) -> None:
        """Create buckets, as an administrator of Ceph does before the service starts."""
        client = ObjectStore.connect(self.url, self.access_key, self.secret_key)._client
        for bucket in buckets:
            client.create_bucket(Bucket=bucket)

    def start(self) -> None:
        """Start the gateway and wait until it answers."""
        self._start("radosgw", "-n", "client.rgw")
        self._wait("the gateway", self._answers)

    def stop(self) -> None:
        """Kill the gateway."""
        process = self._processes.pop("radosgw")
        process.kill()
        process.wait()

    def _make(self) -> None:
        folder = self.folder
        keyring = folder / "keyring"
        keyring.touch(0o600)
        for name, rights in _KEYS.items():
            caps = [word for pair in zip(rights[::2], rights[1::2], strict=True) for word in ("--cap", *pair)]
            quietly(["ceph-authtool", keyring, "--gen-key", "-n", name, *caps])
        monitors = folder / "monmap"
        quietly(["monmaptool", "--create", "--addv", "a", self._monitor, "--fsid", self._fsid, monitors])
        self._ceph("ceph-mon", "-i", "a", "--mkfs", "--monmap", monitors, "--keyring", keyring)
        self._start("ceph-mon", "-i", "a")
        self._wait("the monitor", lambda: self._says("mon", "stat"))
        self._ceph("ceph", "osd", "create", disk := str(uuid4()), "0")
        self._ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        self._ceph("ceph", "osd", "crush", "add", "0", "1.0", "host=localhost", "root=default")
        self._start("ceph-osd", "-i", "0")
        self._wait("the disk", lambda: "1 up" in self._says("osd", "stat"))
        keys = (f"--access-key={self.access_key}", f"--secret-key={self.secret_key}")
        self._ceph("radosgw-admin", "user", "create", "--uid=ims", "--display-name=ims", *keys)
        self._make_roles()
        self.start()

    def _make_roles(self) -> None:
        """Create the roles of temporary credentials. Only the user of the service may assume them."""
        for role, actions in _RIGHTS.items():
            name, rights = (
                f"--role-name={role}",
                [{"Effect": "Allow", "Action": actions, "Resource": ["arn:aws:s3:::*"]}],
            )
            self._ceph("radosgw-admin", "role", "create", name, f"--assume-role-policy-doc={_policy(_TRUST)}")
            policy = ("--policy-name=ims", f"--policy-doc={_policy(rights)}")
            self._ceph("radosgw-admin", "role-policy", "put", name, *policy)

    def _ceph(self, program: str, *arguments: str | Path) -> str:
        return quietly([program, "--conf", self.folder / "ceph.conf", *arguments])

    def _says(self, *question: str) -> str:
        try:
            return self._ceph("ceph", "--connect-timeout", "5", *question)
        except RuntimeError:
            return ""

    def _start(self, program: str, *arguments: str) -> None:
        with (self.folder / "log" / f"{program}.out").open("ab") as log:
            command = [program, "--conf", str(self.folder / "ceph.conf"), "-f", *arguments]
            self._processes[program] = subprocess.Popen(command, stdout=log, stderr=log)

    def _wait(self, what: str, ready: Callable[[], object]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} of Ceph does not answer; see {self.folder}/log")
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url, verify=False).status_code == 200  # noqa: S501  (only whether it is up)
        except httpx.HTTPError:
            return False

    def _end(self) -> None:
        for process in reversed(self._processes.values()):
            process.kill()
            process.wait()
        self._processes.clear()


def _policy(statements: Sequence[dict[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
