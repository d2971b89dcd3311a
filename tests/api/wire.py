"""Checks that apply to every answer of the API, and bodies that every route refuses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx

V3 = "/apis/ims/v3"
JSON = {"Content-Type": "application/json"}
V2 = "/apis/ims/v2"
UNVERSIONED = "/apis/ims"
NOBODY = "3f2b1c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d"
UNKNOWN_IDS = (NOBODY, "zzz", "%3Flimit=1", "%23", "%2e", "%2e%2e", "%00", "%ff")


@dataclass(frozen=True)
class Refused:
    """What to send, the expected status, and the fields that `errors` must name."""

    sent: Any
    status: int = 422
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class BadBody:
    """A body that is not a JSON object."""

    content: bytes | None
    status: int
    headers: dict[str, str] = field(default_factory=lambda: JSON)
    fields: tuple[str, ...] = ()


BAD_BODIES = {
    "no body, no type": BadBody(None, 400, {}),
    "empty": BadBody(b"", 400),
    "no members": BadBody(b" { } ", 400),
    "malformed": BadBody(b'{"name": ', 400),
    "not UTF-8": BadBody(b'{"name": "\xff"}', 400),
    "nested too deep": BadBody(b"[" * 100_000, 400),
    "a list": BadBody(b"[]", 422, fields=("body",)),
    "a string": BadBody(b'"name"', 422, fields=("body",)),
    "text": BadBody(b'{"name": "x"}', 415, {"Content-Type": "text/plain"}),
    "form": BadBody(b"name=x", 415, {"Content-Type": "application/x-www-form-urlencoded"}),
    "no type": BadBody(b'{"name": "x"}', 415, {}),
}


def assert_problem(answer: httpx.Response, status: int, *fields: str) -> None:
    """The answer is a problem with exactly the members of IMS; `errors` names `fields`, if given."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"status", "title", "detail"} | ({"errors"} if fields else set()), body
    assert body["status"] == status
    assert body["title"] == HTTPStatus(status).phrase
    assert isinstance(body["detail"], str)
    assert body["detail"]
    if fields:
        assert set(body["errors"]) == set(fields)
        for messages in body["errors"].values():
            assert messages
            assert all(isinstance(message, str) and message for message in messages)


def assert_bad_body(client: httpx.Client, method: str, path: str, body: BadBody) -> None:
    """The API refuses a body that is not a JSON object with a problem."""
    answer = client.request(method, path, content=body.content, headers=body.headers)
    assert_problem(answer, body.status, *body.fields)


def assert_deleted(answer: httpx.Response) -> None:
    """The answer has the status 204 and no body."""
    assert answer.status_code == 204, answer.text
    assert answer.content == b""


def assert_new(record: dict[str, Any], fields: Iterable[str]) -> None:
    """The record is new: it has a UUID of version 4, a time with a time zone, and exactly these other fields."""
    assert set(record) == {"id", "created", *fields}
    assert UUID(record["id"]).version == 4
    assert record["id"] == str(UUID(record["id"]))
    age = datetime.now(UTC) - datetime.fromisoformat(record["created"])
    assert timedelta(0) <= age < timedelta(minutes=5)
