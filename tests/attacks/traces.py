"""Where jobs can leave a secret: files of the installation, databases, objects, answers of the APIs, processes."""

from __future__ import annotations

import gzip
import json
import os
import re
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import psycopg

from ims.masking import spellings
from ims.stack import postgres
from ims.storage.objects import ObjectName
from tests.flows.artifacts import unpack
from tests.service import Service

PLACES = ("/tmp", "/var/tmp", "/var/log", "/dev/shm", "/run", "/root")
"""Folders of this machine, outside of the installation, in which programs leave files."""
DEPTH = 3
"""How deep below `PLACES` files are read."""
SAMPLE_SECONDS = 0.05
CHUNK = 64 * 1024**2
OVERLAP = 4096
"""Bytes. Longer than the longest spelling of a secret."""


class Traces:
    """Finds secrets, in every spelling, in what was written since this object was made."""

    def __init__(self, service: Service, *secrets: str) -> None:
        self.service = service
        self.since = time.time()
        forms = {form.encode() for secret in secrets for form in (*spellings(secret), *_plain_parts(secret))}
        self._pattern = re.compile(b"|".join(map(re.escape, sorted(forms))))

    def in_bytes(self, data: bytes) -> bool:
        """Whether the data contains a secret."""
        return self._pattern.search(data) is not None

    def in_files(self, folder: Path, *, depth: int = 100, since: float = 0) -> set[str]:
        """The files below a folder that contain one, by their path in it. What is mounted there is not read."""
        return {
            str(path.relative_to(folder))
            for path in _files(folder, depth)
            if _changed(path) >= since and self.in_file(path)
        }

    def in_installation(self) -> set[str]:
        """The new files of the installation: logs, workspaces, caches, databases, volumes of S3."""
        return self.in_files(self.service.settings.home, since=self.since)

    def on_machine(self) -> set[str]:
        """The new files outside of the installation."""
        found = ((place, self.in_files(Path(place), depth=DEPTH, since=self.since)) for place in PLACES)
        return {f"{place}/{name}" for place, names in found for name in names}

    def in_file(self, path: Path) -> bool:
        """Whether a file contains one. The content of compressed files and of squashfs images is searched, too."""
        try:
            with path.open("rb") as file:
                start = file.read(4)
                file.seek(0)
                if self._in_stream(file):
                    return True
            if start.startswith(b"\x1f\x8b"):
                with gzip.open(path) as packed:
                    return self._in_stream(packed)
        except OSError:  # it has just gone, or is damaged
            return False
        return start == b"hsqs" and self._in_squashfs(path)

    def _in_stream(self, file: BufferedIOBase) -> bool:
        before = b""
        while chunk := file.read(CHUNK):
            if self.in_bytes(before + chunk):
                return True
            before = chunk[-OVERLAP:]
        return False

    def _in_squashfs(self, path: Path) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            return bool(self.in_files(unpack(path, Path(folder, "root"))))

    def in_databases(self) -> set[str]:
        """The tables of Airflow and of the records that contain one."""
        found = set()
        with psycopg.connect(postgres.url(self.service.settings).replace("+psycopg", "")) as airflow:
            tables = airflow.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            for (table,) in tables:
                with airflow.cursor().copy(f'COPY "{table}" TO STDOUT') as rows:
                    text = b"".join(bytes(row) for row in rows)
                # Backslashes are doubled, and bytes are hexadecimal.
                if self.in_bytes(text.replace(b"\\\\", b"\\")) or self.in_bytes(_unhexed(text)):
                    found.add(f"airflow.{table}")
        with sqlite3.connect(self.service.settings.home / "ims.db") as records:
            if self.in_bytes("\n".join(records.iterdump()).encode()):
                found.add("records")
        return found

    def in_objects(self) -> set[str]:
        """The new objects of all buckets that contain one, in their content, name or metadata."""
        store, found = self.service.store, set()
        client: Any = store._client
        with tempfile.TemporaryDirectory() as folder:
            for bucket in (item["Name"] for item in client.list_buckets()["Buckets"]):
                for key in _new_objects(client, bucket, self.since):
                    path = Path(folder, "object")
                    store.download(ObjectName(bucket, key), path)
                    head = json.dumps(client.head_object(Bucket=bucket, Key=key), default=str)
                    if self.in_file(path) or self.in_bytes(f"{key} {head}".encode()):
                        found.add(f"{bucket}/{key}")
        return found

    def in_answers(self, client: httpx.Client) -> set[str]:
        """The answers that contain one: of the IMS API, and of Airflow about all new runs and their tasks."""
        return {path for path in _addresses(client, self.since) if self.in_bytes(_read_whole(client, path))}


class Watch:
    """Looks again and again at the arguments and environments of all processes that are not in a sandbox.

    `found` are those with a secret, `in_sandbox` the programs of a sandbox that have one in their arguments.
    """

    def __init__(self, traces: Traces) -> None:
        self.traces = traces
        self.found: set[str] = set()
        self.in_sandbox: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._own = Path("/proc/self/ns/user").readlink()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    command, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
                    is_outside = (process / "ns/user").readlink() == self._own
                except OSError:  # it has just gone
                    continue
                words = command.replace(b"\0", b" ").decode(errors="replace")
                if is_outside and self.traces.in_bytes(command + b"\0" + environment):
                    self.found.add(words)
                elif self.traces.in_bytes(command):
                    self.in_sandbox.add(words)


def _plain_parts(secret: str) -> Iterator[str]:
    """The parts of a secret that look the same in every encoding of special characters, and their hexadecimal codes."""
    for part in re.findall(r"[A-Za-z0-9]{16,}", secret):
        yield from (part, part.encode().hex(), part[::-1], quote(part))


def _files(folder: Path, depth: int) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        level = len(Path(place).relative_to(folder).parts)
        folders[:] = [name for name in folders if level + 1 < depth and not os.path.ismount(Path(place, name))]
        for path in (Path(place, name) for name in names):
            if path.is_file() and not path.is_symlink():
                yield path


def _changed(path: Path) -> float:
    try:
        return path.stat().st_ctime
    except OSError:
        return 0


def _unhexed(text: bytes) -> bytes:
    return b"\n".join(bytes.fromhex(found.decode()) for found in re.findall(rb"\\\\x((?:[0-9a-f]{2})+)", text))


def _new_objects(client: Any, bucket: str, since: float) -> Iterator[str]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        # S3 stores whole seconds.
        yield from (item["Key"] for item in page.get("Contents", []) if item["LastModified"].timestamp() > since - 2)


def _addresses(client: httpx.Client, since: float) -> Iterator[str]:
    """The paths that say something about records, and about runs since a time and their tasks."""

    def get(path: str) -> Any:
        return client.get(path).raise_for_status().json()

    for kind in ("recipes", "images", "jobs", "nights", "deleted/recipes", "deleted/images"):
        yield f"/apis/ims/v3/{kind}"
    begin = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))
    for run in get(f"/api/v2/dags/~/dagRuns?run_after_gte={begin}&limit=100")["dag_runs"]:
        here = f"/api/v2/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}"
        yield here
        for task in get(f"{here}/taskInstances")["task_instances"]:
            there, index = f"{here}/taskInstances/{task['task_id']}", task["map_index"]
            yield f"{there}/{index}" if index >= 0 else there
            yield from (f"{there}/logs/{number + 1}?map_index={index}" for number in range(task["try_number"]))
            for entry in get(f"{there}/xcomEntries?map_index={index}")["xcom_entries"]:
                yield f"{there}/xcomEntries/{entry['key']}?map_index={index}"


def _read_whole(client: httpx.Client, path: str) -> bytes:
    answer = client.get(path)
    assert answer.status_code in (200, 404), (path, answer.status_code)
    text = answer.content
    try:  # both as it was sent and without escapes
        return text + json.dumps(answer.json(), ensure_ascii=False).encode()
    except ValueError:
        return text
