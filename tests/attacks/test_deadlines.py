"""Whatever never ends by itself is ended: repositories that drip, programs that sleep forever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ims import client
from ims.client import ImsClient
from ims.errors import UnavailableError
from ims.recipes import availability, metadata
from ims.recipes.availability import ask_all, wait_for_all
from ims.recipes.description import Repository
from ims.recipes.metadata import index_digests
from tests.dripping import HEAD, dripping_server

NO_CA = Path("/nonexistent/ca.pem")
LIMIT = 1
DRIPS: dict[str, tuple[bytes, bytes, float]] = {
    "the status line": (b"HTTP/1.1 200 O", b"K", 0.05),
    "a header": (b"HTTP/1.1 200 OK\r\nServer: ", b"x", 0.05),
    "endless informational answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
}


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """The block takes no longer."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


@pytest.mark.parametrize(("at_once", "drop", "seconds"), DRIPS.values(), ids=DRIPS)
def test_repository_drips(monkeypatch: pytest.MonkeyPatch, at_once: bytes, drop: bytes, seconds: float) -> None:
    """A job waits no longer than for a repository that is silent."""
    monkeypatch.setattr(availability, "ANSWER_SECONDS", LIMIT)
    with dripping_server(at_once, drop, seconds) as url, within(10 * LIMIT):
        (answer,) = asyncio.run(ask_all([Repository(url, f"{url}/repomd.xml")], NO_CA))
        assert (answer.ready, answer.final, answer.text) == (False, False, "no answer within 1 s")


def test_wait_for_a_dripping_repository_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout of the job counts, not the drops."""
    monkeypatch.setattr(availability, "ANSWER_SECONDS", LIMIT)
    with dripping_server() as url, within(10 * LIMIT):
        waits = wait_for_all([Repository(url, f"{url}/repomd.xml")], NO_CA, until=time.time() + LIMIT, interval=0.1)
        with pytest.raises(UnavailableError, match="no answer within 1 s"):
            asyncio.run(waits)


def test_index_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan, and with it the night, goes on: the repository counts as not available."""
    monkeypatch.setattr(metadata, "INDEX_SECONDS", LIMIT)
    with dripping_server(HEAD) as url, within(10 * LIMIT), pytest.raises(UnavailableError, match="within 1 s"):
        index_digests([Repository(url, f"{url}/repomd.xml")], NO_CA)


def test_index_is_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither stored nor read to its end."""
    monkeypatch.setattr(metadata, "MAX_BYTES", 1024 * 1024)
    with (
        dripping_server(HEAD, b"x" * 65536, 0) as url,
        within(10 * LIMIT),
        pytest.raises(UnavailableError, match="larger than 1048576 bytes"),
    ):
        index_digests([Repository(url, f"{url}/repomd.xml")], NO_CA)


ENDLESS_ANSWERS: dict[str, tuple[str, int, bytes, float]] = {
    "slow": ("BODY_SECONDS", LIMIT, b"x", 0.05),
    "large": ("MAX_BYTES", 1024 * 1024, b"x" * 65536, 0),
}


@pytest.mark.parametrize(("limit", "value", "drop", "seconds"), ENDLESS_ANSWERS.values(), ids=ENDLESS_ANSWERS)
def test_service_answers_without_end(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int, drop: bytes, seconds: float
) -> None:
    """Something else listens at the address of the service: no task and no client reads it forever."""
    monkeypatch.setattr(client, limit, value)
    with (
        dripping_server(HEAD, drop, seconds) as url,
        within(10 * LIMIT),
        pytest.raises(UnavailableError, match="takes"),
    ):
        ImsClient(url).get("recipes")
