"""Authentication and permissions without Airflow: who is asked, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.models.dag import DagModel
from fastapi import HTTPException
from fastapi.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from ims.api.app import build_app
from ims.api.http import auth, services
from ims.api.http.auth import Caller, CallerCache
from ims.api.http.body import MAX_BODY, BodyMiddleware
from ims.records.database import Database
from ims.records.store import Records
from tests.api.offline import User

IMAGES = "/v3/images"


class Airflow:
    """Knows two tokens, `admin` and `viewer`, and counts what it is asked."""

    def __init__(self) -> None:
        self.resolved: list[str | None] = []
        self.authorized: list[str] = []

    async def resolve(self, token: str | None) -> User:
        """The user of a token."""
        self.resolved.append(token)
        if token not in ("admin", "viewer"):
            raise HTTPException(401)
        return User(token)

    def is_authorized_dag(self, *, method: str, user: User, **_details: Any) -> bool:
        """Viewers may read."""
        self.authorized.append(method)
        return user.name == "admin" or method == "GET"


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Airflow:
    """What the API asks in place of Airflow, and an empty database of records."""
    fake = Airflow()
    monkeypatch.setattr(auth, "resolve_user_from_token", fake.resolve)
    monkeypatch.setattr(auth, "get_auth_manager", lambda: fake)
    monkeypatch.setattr(DagModel, "get_team_name", lambda _dag_id: None)
    monkeypatch.setattr(auth, "_CALLERS", CallerCache(60, 10))
    monkeypatch.setattr(services.records, "_made", Records(Database(f"sqlite:///{tmp_path / 'records.db'}")))
    return fake


@pytest.fixture
def client(airflow: Airflow) -> Iterator[TestClient]:
    """A client of the API; `airflow` is what the API asks."""
    assert airflow.resolved == []
    with TestClient(build_app()) as http:
        yield http


def bearer(token: str) -> dict[str, str]:
    """The headers of a request with a token."""
    return {"Authorization": f"Bearer {token}"}


def test_asked_once(airflow: Airflow, client: TestClient) -> None:
    """Requests with one token ask Airflow once for the user and once for each permission."""
    for _ in range(3):
        assert client.get(IMAGES, headers=bearer("admin")).json() == []
    assert client.delete(IMAGES, headers=bearer("admin")).status_code == 204
    assert airflow.resolved == ["admin"]
    assert airflow.authorized == ["GET", "DELETE"]


def test_stranger(airflow: Airflow, client: TestClient) -> None:
    """An invalid token is refused before the body is read, and Airflow is asked again the next time."""
    for _ in range(2):
        answer = client.post(IMAGES, content=b"x" * (MAX_BODY + 1), headers=bearer("nobody"))
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert airflow.resolved == ["nobody", "nobody"]


@pytest.mark.usefixtures("airflow")
def test_viewer(client: TestClient) -> None:
    """Without the permission the answer is 403, whatever the request is."""
    for body in ({}, {"name": "image"}, {"colour": "red"}):
        assert client.post(IMAGES, json=body, headers=bearer("viewer")).status_code == 403
    assert client.get(IMAGES, headers=bearer("viewer")).status_code == 200


@pytest.mark.usefixtures("airflow")
def test_bodies(client: TestClient) -> None:
    """A body that is too large or not JSON is refused."""
    assert client.post(IMAGES, content=b"x" * (MAX_BODY + 1), headers=bearer("admin")).status_code == 413
    assert client.post(IMAGES, content=b"x", headers=bearer("admin")).status_code == 415
    assert client.get("/v3/images?colour=red", headers=bearer("admin")).status_code == 400


def test_body_is_read_only_if_there_is_one() -> None:
    """A request without the headers of a body is passed on at once, with an empty body; others are read first."""
    seen: list[object] = []

    async def application(_scope: Scope, receive: Receive, _send: Send) -> None:
        seen.append(await receive())

    async def receive() -> Message:
        seen.append("read")
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(_message: Message) -> None:
        raise AssertionError

    json = (b"content-type", b"application/json")
    for headers in ([json], [json, (b"content-length", b"2")], [json, (b"transfer-encoding", b"chunked")]):
        asyncio.run(BodyMiddleware(application)({"type": "http", "headers": headers}, receive, send))
    body, empty = ({"type": "http.request", "body": data, "more_body": False} for data in (b"{}", b""))
    assert seen == [empty, "read", body, "read", body]


def test_cache_forgets() -> None:
    """An entry is used only while it is fresh; the oldest makes room if the cache is full."""
    stale, full = CallerCache(0, 2), CallerCache(60, 2)
    stale.add("a", Caller("a"))
    assert stale.get("a") is None
    for token in "abc":
        full.add(token, Caller(token))
    assert [full.get(token) is not None for token in "abc"] == [False, True, True]
