"""The API in this process: without Airflow, with a database of records of its own and an S3 in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import uuid4

import pytest
from airflow.models.dag import DagModel
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient

from ims.api.app import build_app
from ims.api.http import auth, services
from ims.api.http.auth import CallerCache
from ims.errors import MissingError
from ims.records.audit import AuditLog
from ims.records.database import Database
from ims.records.objects import ObjectReferences
from ims.records.shells import Shells
from ims.records.store import Records
from ims.storage.manifest import ROOTFS
from ims.storage.objects import ListedObject, ObjectName, StoredObject, UnfinishedUpload
from ims.ui import api_docs, images

TASKS = "ims-tasks"
ROLES = {
    "viewer": ("GET",),
    "writer": ("GET", "POST"),
    **dict.fromkeys(("user", "admin", TASKS), ("GET", "POST", "DELETE")),
}
"""The methods that each user may use on workflows. Each token is the name of its user."""


class User:
    """A user of Airflow."""

    def __init__(self, name: str) -> None:
        self.name = name

    def get_id(self) -> str:
        """The id, which the simple auth manager takes from the name."""
        return self.name

    get_name = get_id


class AuthManager:
    """Decides by `ROLES`."""

    def is_authorized_dag(self, *, method: str, user: User, **_details: Any) -> bool:
        """Whether the user may do that."""
        return method in ROLES[user.name]


class MemoryStore:
    """The objects of an S3, by address."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.asked: list[str] = []

    def stat(self, name: ObjectName) -> StoredObject:
        """Describes an object. Raises MissingError."""
        return StoredObject(len(self.read_bytes(name, 0)), "", {})

    def read_bytes(self, name: ObjectName, limit: int) -> bytes:
        """Returns an object. Raises MissingError."""
        self.asked.append(str(name))
        if str(name) not in self.content:
            raise MissingError(f"there is no object {name}")
        return self.content[str(name)]

    def delete(self, name: ObjectName) -> None:
        """Removes an object, if it exists."""
        self.content.pop(str(name), None)

    def objects(self, bucket: str) -> list[ListedObject]:
        """The objects of a bucket, all an hour old."""
        names = [ObjectName.parse(address) for address in self.content]
        modified = datetime.now(UTC) - timedelta(hours=1)
        return [ListedObject(name, 1, modified, "etag") for name in names if name.bucket == bucket]

    def uploads(self, _bucket: str) -> list[UnfinishedUpload]:
        """No upload is unfinished."""
        return []

    def put(self, address: str, data: bytes = b"data") -> str:
        """Creates an object; returns its address."""
        self.content[address] = data
        return address

    def put_image(self, *artifacts: str, bucket: str = "boot-images") -> str:
        """Creates a manifest with a rootfs and these other objects; returns its address."""
        folder = f"s3://{bucket}/{uuid4()}"
        paths = [self.put(f"{folder}/rootfs"), *artifacts]
        listed = [
            {"type": "application/octet-stream" if number else ROOTFS, "link": {"path": path}}
            for number, path in enumerate(paths)
        ]
        document = {"version": "1.0", "artifacts": listed}
        return self.put(f"{folder}/manifest.yaml", json.dumps(document).encode())


class Offline:
    """The API as each user sees it, its records and its objects."""

    def __init__(self, http: TestClient, records: Records, shells: Shells, store: MemoryStore) -> None:
        self.http = http
        self.records = records
        self.shells = shells
        self.store = store

    def request(self, user: str, method: str, path: str, body: Any = None) -> Any:
        """Sends a request of a user; returns the answer."""
        return self.http.request(method, path, json=body, headers={"Authorization": f"Bearer {user}"})

    def everything(self) -> Any:
        """All records, tombstones and open shells, and the addresses of all objects."""
        kinds = ("recipes", "images", "public-keys")
        paths = [f"/v3/{prefix}{kind}" for prefix in ("", "deleted/") for kind in kinds]
        shown = [self.request("admin", "GET", path).json() for path in paths]
        shells = [(shell.job_id, shell.run_url, shell.operation) for shell in self.shells.list_open()]
        return shown, shells, sorted(self.store.content)


@cache
def application() -> FastAPI:
    """The application, which takes a second to make."""
    return build_app(images.router, api_docs.router)


@cache
def database() -> Database:
    """The database of all tests of this process: to migrate one takes seconds."""
    return Database(f"sqlite:///{os.environ['IMS_HOME']}/offline-{uuid4()}.db")


async def _resolve(token: str | None) -> User:
    if token not in ROLES:
        raise HTTPException(401)
    return User(token)


@contextmanager
def offline_api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Offline]:
    """Makes the API for one test."""
    store, records, shells = MemoryStore(), Records(database()), Shells(database())
    made = {
        services.database: database(),
        services.records: records,
        services.shells: shells,
        services.audit_log: AuditLog(database()),
        services.object_references: ObjectReferences(database()),
        services.object_store: store,
    }
    for single, value in made.items():
        monkeypatch.setattr(single, "_made", value)
    monkeypatch.setattr(auth, "resolve_user_from_token", _resolve)
    monkeypatch.setattr(auth, "get_auth_manager", AuthManager)
    monkeypatch.setattr(auth, "task_user", lambda: TASKS)
    monkeypatch.setattr(auth, "_CALLERS", CallerCache(60, 10))
    monkeypatch.setattr(DagModel, "get_team_name", lambda _dag_id: None)
    with TestClient(application()) as http:
        yield Offline(http, records, shells, store)
