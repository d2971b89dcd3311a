"""Watches the repositories of nightly recipes in the triggerer, and fires when something is published."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from ims.client import ImsClient
from ims.connections import api_client
from ims.errors import ImsError
from ims.network.client import checked_client
from ims.recipes.availability import tls_context
from ims.recipes.description import Repository
from ims.recipes.indexes import open_index

POLL_SECONDS = 10.0
ANSWER_SECONDS = 10
"""How long a request may take, with all its redirects."""
LONGEST_PAUSE = 900
"""The most seconds between two requests to a repository that does not answer."""
REPORT_PAUSE = 60
"""The least seconds between two reports of a repository, so that one that always changes does not start all nights."""
CONCURRENT = 16
MAX_BYTES = 16 * 1024 * 1024
_MAX_DOUBLINGS = 20
_LOGIN_NEEDED = {401, 403}


@dataclass
class Seen:
    """What is known of a repository: how to ask whether its index changed, and the last index that was reported.

    `needs_login` is whether it refused to answer; the trigger has no logins.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    digest: str | None = None
    reported: str | None = None
    needs_login: bool = False
    failures: int = 0
    not_before: float = 0


class PublicationsTrigger(BaseEventTrigger):
    """Fires whenever the index of a repository is another than the one that a newest image was built from.

    The payload of an event is {repositories}, the addresses of their indexes, and of those that need a login: they may
    have changed as well. Each index is reported once; after a restart of the triggerer, once more, unless an image was
    built from it meanwhile.
    """

    def __init__(self, ca_certificate: str, interval: float = POLL_SECONDS) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ca_certificate = ca_certificate
        self.interval = interval
        self._seen: dict[str, Seen] = {}
        self._client: ImsClient | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and the arguments from which another triggerer creates this trigger again."""
        arguments = {"ca_certificate": self.ca_certificate, "interval": self.interval}
        return "ims.triggers.publications.PublicationsTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fires again and again. Whatever fails is tried again: a trigger that ends is not started before a restart."""
        while True:
            try:
                changed = await self.changed(await sync_to_async(self._watched)())
            except Exception as error:
                self.log.warning("the repositories are not watched for now: %s", error)
            else:
                if changed:
                    yield TriggerEvent({"repositories": changed})
            await asyncio.sleep(self.interval)

    def _watched(self) -> list[dict[str, Any]]:
        """The repositories in the answer of `GET /nights/repositories`. Raises ImsError."""
        try:
            self._client = self._client or api_client()  # a login costs more than the request
            found = self._client.get("nights/repositories")
            return [item for item in found if item["index_url"] is not None]
        except ImsError:
            self._client = None
            raise

    async def changed(self, watched: Sequence[Mapping[str, Any]]) -> list[str]:
        """The repositories among these whose indexes must be reported."""
        addresses = {item["index_url"] for item in watched}
        self._seen = {address: self._seen.get(address, Seen()) for address in addresses}
        now = time.monotonic()
        due = [item for item in watched if self._seen[item["index_url"]].not_before <= now]
        slots = asyncio.Semaphore(CONCURRENT)
        async with checked_client(tls_context(Path(self.ca_certificate)), ANSWER_SECONDS) as client:
            await asyncio.gather(*(self._look(client, slots, item["index_url"]) for item in due))
        changed = [item["index_url"] for item in due if self._must_report(item["index_url"], item["digests"])]
        refused = [address for address, seen in self._seen.items() if seen.needs_login and address not in changed]
        return changed and [*changed, *refused]

    def _must_report(self, address: str, digests: Iterable[str]) -> bool:
        seen = self._seen[address]
        if set(digests) == {seen.digest}:
            seen.reported = None  # an older job that ends later makes a newest image from an older index
            return False
        is_new = seen.digest not in (None, seen.reported)
        if is_new:
            seen.reported = seen.digest
            seen.not_before = time.monotonic() + REPORT_PAUSE
        return is_new

    async def _look(self, client: httpx.AsyncClient, slots: asyncio.Semaphore, address: str) -> None:
        """Asks for an index, unless it is still the last one. A server that does not answer is asked less often.

        Whatever fails here concerns this repository alone: the others are watched.
        """
        seen = self._seen[address]
        try:
            async with slots, asyncio.timeout(ANSWER_SECONDS):
                await _read(client, seen, address)
        except Exception as error:
            if not seen.failures:
                self.log.info("%s is not watched for now: %s", address, str(error) or type(error).__name__)
            seen.failures = min(seen.failures + 1, _MAX_DOUBLINGS)
            seen.not_before = time.monotonic() + min(self.interval * 2**seen.failures, LONGEST_PAUSE)
        else:
            seen.failures = 0


async def _read(client: httpx.AsyncClient, seen: Seen, address: str) -> None:
    """Sets the digest of an index, and how to ask for it again. Raises ValueError: there is none."""
    async with open_index(client, Repository(address, address), seen.headers) as answer:
        seen.needs_login = answer.status_code in _LOGIN_NEEDED
        if answer.status_code == httpx.codes.NOT_MODIFIED:
            return
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"{answer.status_code} {answer.reason_phrase}")
        total, size = hashlib.sha256(), 0
        async for chunk in answer.aiter_bytes():
            total.update(chunk)
            size += len(chunk)
            if size > MAX_BYTES:
                raise ValueError(f"its index is larger than {MAX_BYTES} bytes")
        seen.digest = total.hexdigest()
        seen.headers = _condition(answer.headers)


def _condition(headers: httpx.Headers) -> dict[str, str]:
    """The headers with which a server answers 304 if the index is still the same."""
    names = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}
    return {asked: headers[name] for name, asked in names.items() if name in headers}
