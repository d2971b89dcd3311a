"""The embedded S3 alone, without the rest of the stack."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ims.errors import ImsError
from ims.settings import Settings
from ims.stack import seaweedfs
from ims.stack.credentials import Credentials, ensure_credentials
from ims.stack.environment import s3_environment
from ims.storage.objects import ObjectName, ObjectStore
from tests.ports import free_ports

START_SECONDS = 60


@dataclass(frozen=True)
class EmbeddedS3:
    """A running SeaweedFS; `store` has the rights of the service."""

    settings: Settings
    credentials: Credentials
    store: ObjectStore
    pid: int


@contextmanager
def running(home: Path) -> Iterator[EmbeddedS3]:
    """Run SeaweedFS as the stack does, with its data in `home`. Yields when objects can be written."""
    port, internal, *_ = free_ports(5)
    own = Settings(home=home, host="127.0.0.1", s3_endpoint_url=None, s3_port=port, s3_internal_port=internal)
    credentials = ensure_credentials(own)
    for name in ("run", "s3"):
        (home / name).mkdir()
    seaweedfs.configure(own, credentials)
    environment = {**os.environ, **s3_environment(own, credentials)}
    with (home / "s3.log").open("wb") as log:
        process = subprocess.Popen(
            seaweedfs.command(own), cwd=seaweedfs.folder(own), env=environment, stdout=log, stderr=log
        )
    store = ObjectStore.connect(own.endpoint_url, credentials.s3_access_key, credentials.s3_secret_key, attempts=1)
    try:
        await_s3(store)
        yield EmbeddedS3(own, credentials, store, process.pid)
    finally:
        process.kill()
        process.wait()


def await_s3(store: ObjectStore) -> None:
    """Wait until an object can be written. Raises TimeoutError."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            store.write_bytes(ObjectName("ims", ".ready"), b"ready")
            return
        except ImsError:
            if time.monotonic() > deadline:
                raise TimeoutError("SeaweedFS does not answer") from None
            time.sleep(0.1)
