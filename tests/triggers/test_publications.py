"""What the triggerer does to notice publications."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ims.errors import UnavailableError
from ims.triggers import publications
from ims.triggers.publications import PublicationsTrigger
from tests.dripping import dripping_server
from tests.flows.rpm_repository import RepositoryServer

INDEX = "repodata/repomd.xml"
NO_CA = "/nonexistent/ca.pem"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two repositories."""
    for name in ("one", "two"):
        (tmp_path / name / "repodata").mkdir(parents=True)
        publish(tmp_path / name, "first")
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[RepositoryServer]:
    """A server of both."""
    with RepositoryServer(folder) as started:
        yield started


def publish(repository: Path, content: str) -> None:
    """Replace the index, which becomes a minute newer."""
    index = repository / INDEX
    before = index.stat().st_mtime if index.exists() else 1_700_000_000
    index.write_text(content)
    os.utime(index, (before + 60, before + 60))


def watched(url: str, *built_from: str) -> dict[str, Any]:
    """A repository as the API describes it; `built_from` are the contents of its index at the newest builds."""
    return {"index_url": url, "digests": [hashlib.sha256(text.encode()).hexdigest() for text in built_from]}


def look(trigger: PublicationsTrigger, *repositories: dict[str, Any]) -> list[str]:
    """What the trigger reports at its next look."""
    return asyncio.run(trigger.changed(repositories))


def test_publication_is_reported_once(folder: Path, server: RepositoryServer) -> None:
    """As long as nothing changes, the server sends no index again."""
    trigger, url = PublicationsTrigger(NO_CA), f"{server.url}/one/{INDEX}"
    one, two = watched(url, "first"), watched(f"{server.url}/two/{INDEX}", "first")
    assert look(trigger, one, two) == look(trigger, one, two) == []
    publish(folder / "one", "second")
    assert look(trigger, one, two) == [url]
    publish(folder / "one", "third")
    assert look(trigger, one, two) == []  # so soon
    trigger._seen[url].not_before = 0
    assert look(trigger, one, two) == [url]
    trigger._seen[url].not_before = 0
    assert look(trigger, one, two) == []
    statuses = [line.split()[-1] for line in server.requests if "/one/" in line]
    assert statuses == ["200", "304", "200", "200", "304"]


def test_publication_while_the_triggerer_was_down(folder: Path, server: RepositoryServer) -> None:
    """A new triggerer reports it, because no image was built from it. One image that was does not hide another."""
    url = f"{server.url}/one/{INDEX}"
    publish(folder / "one", "second")
    assert look(PublicationsTrigger(NO_CA), watched(url, "first")) == [url]
    assert look(PublicationsTrigger(NO_CA), watched(url, "second")) == []
    assert look(PublicationsTrigger(NO_CA), watched(url, "first", "second")) == [url]


def test_dead_repository(folder: Path, server: RepositoryServer) -> None:
    """It is asked less and less often, and hides no publication of another. It is reported when it is back."""
    trigger, url, dead = (
        PublicationsTrigger(NO_CA, interval=30),
        f"{server.url}/one/{INDEX}",
        f"{server.url}/two/{INDEX}",
    )
    both = watched(url, "first"), watched(dead, "zeroth")
    server.fail(503, under="/two")
    assert look(trigger, *both) == []
    publish(folder / "one", "second")
    assert look(trigger, *both) == [url]
    assert sum("/two/" in line for line in server.requests) == 1
    server.recover()
    trigger._seen[dead].not_before = 0
    assert look(trigger, *both) == [dead]


def test_hostile_repository(folder: Path, server: RepositoryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that drips its index or sends without end costs one time limit, and a forbidden address nothing."""
    monkeypatch.setattr(publications, "ANSWER_SECONDS", 1)
    monkeypatch.setattr(publications, "MAX_BYTES", 1000)
    forbidden = watched(f"http://169.254.169.254/{INDEX}", "x")
    with dripping_server() as slow, dripping_server(at_once=b"HTTP/1.0 200 OK\r\n\r\n" + 2000 * b"x") as large:
        others = watched(f"{slow}/{INDEX}", "x"), watched(f"{large}/{INDEX}", "x"), watched("no address", "x")
        url = f"{server.url}/one/{INDEX}"
        assert look(PublicationsTrigger(NO_CA), forbidden, *others, watched(url, "zeroth")) == [url]


def test_repository_that_is_dead_for_days(folder: Path, server: RepositoryServer) -> None:
    """The pauses stop growing; the other repositories are still watched."""
    trigger, url, dead = PublicationsTrigger(NO_CA), f"{server.url}/one/{INDEX}", f"{server.url}/two/{INDEX}"
    both = watched(url, "first"), watched(dead, "first")
    server.fail(503, under="/two")
    assert look(trigger, *both) == []
    trigger._seen[dead].failures, trigger._seen[dead].not_before = 5000, 0
    publish(folder / "one", "second")
    assert look(trigger, *both) == [url]
    assert trigger._seen[dead].not_before <= time.monotonic() + publications.LONGEST_PAUSE


def test_defect_of_one_repository(folder: Path, server: RepositoryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody expected stops no other repository."""
    read = publications._read

    async def broken(client: Any, seen: Any, address: str) -> None:
        if "/two/" in address:
            raise RecursionError
        await read(client, seen, address)

    monkeypatch.setattr(publications, "_read", broken)
    url = f"{server.url}/one/{INDEX}"
    others = watched(f"{server.url}/two/{INDEX}", "zeroth")
    assert look(PublicationsTrigger(NO_CA), others, watched(url, "zeroth")) == [url]


def test_repository_with_a_login(folder: Path, server: RepositoryServer) -> None:
    """Nobody can see whether it changed: it starts no night, and every event names it."""
    trigger, url, private = PublicationsTrigger(NO_CA), f"{server.url}/one/{INDEX}", f"{server.url}/two/{INDEX}"
    both = watched(url, "first"), watched(private, "first")
    server.fail(401, under="/two")
    assert look(trigger, *both) == []
    publish(folder / "one", "second")
    assert look(trigger, *both) == [url, private]


def test_older_job_ends_after_the_night(folder: Path, server: RepositoryServer) -> None:
    """The newest image is then built from an older index, which is reported again."""
    trigger, url = PublicationsTrigger(NO_CA), f"{server.url}/one/{INDEX}"
    publish(folder / "one", "second")
    looks = []
    for built_from in ("first", "first", "second", "first", "first"):
        looks.append(look(trigger, watched(url, built_from)))
        trigger._seen[url].not_before = 0
    assert looks == [[url], [], [], [url], []]


def test_debian_without_a_signed_index(folder: Path, server: RepositoryServer) -> None:
    """As apt does, it falls back to `Release`."""
    (folder / "one" / "Release").write_text("second")
    url = f"{server.url}/one/InRelease"
    assert look(PublicationsTrigger(NO_CA), watched(url, "first")) == [url]


def test_trigger_goes_on(monkeypatch: pytest.MonkeyPatch, server: RepositoryServer) -> None:
    """If the API does not answer, it asks again later. Another triggerer can create it again.

    The item of the recipes whose repositories are unknown has no address.
    """
    url = f"{server.url}/one/{INDEX}"
    unknown = {"index_url": None, "digests": [], "recipes": ["r1"]}
    answers = iter([UnavailableError("the API does not answer"), [], [unknown, watched(url, "zeroth")]])

    class Api:
        def get(self, _path: str) -> Any:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

    async def first() -> Any:
        path, arguments = PublicationsTrigger(NO_CA, interval=0.01).serialize()
        assert path == "ims.triggers.publications.PublicationsTrigger"
        return await anext(PublicationsTrigger(**arguments).run())

    monkeypatch.setattr(publications, "api_client", Api)
    assert asyncio.run(first()).payload == {"repositories": [url]}
