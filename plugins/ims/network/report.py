"""What went through the proxy: which hosts were reached, and which were refused."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any

from ims.errors import ImsError
from ims.network.addresses import HINT
from ims.network.senders import Sender

log = logging.getLogger(__name__)

MAX_ENTRIES = 500
"""How many hosts of each kind are kept. A program can request any number of names."""
MAX_NAME = 300
MAX_BYTES = 2 * 1024 * 1024
NAMED = 3
"""How many refused hosts the reason of a failure names."""


@dataclass
class Traffic:
    """The number of requests to a host, and the bytes in both directions."""

    requests: int = 0
    bytes: int = 0


@dataclass
class Report:
    """Each host is HOST:PORT. `refused` and `forbidden` map it to a reason.

    A `refused` host is one that the recipe does not declare, a `forbidden` host has an address that nobody may reach.
    `contacted` are the hosts that were not refused, by who sent requests to them, whether or not they answered.
    `is_complete` is false if there were more hosts than are kept.
    """

    fetched: dict[str, Traffic] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    forbidden: dict[str, str] = field(default_factory=dict)
    contacted: dict[Sender, list[str]] = field(default_factory=dict)
    is_complete: bool = True

    def contact(self, sender: Sender, host: str) -> None:
        """Keep who sent a request to a host."""
        hosts = self.contacted.setdefault(sender, [])
        if self._has_room(hosts, host) and host[:MAX_NAME] not in hosts:
            hosts.append(host[:MAX_NAME])

    def traffic(self, host: str) -> Traffic:
        """Count a request to a host; returns where its bytes are counted."""
        if not self._has_room(self.fetched, host):
            return Traffic()
        entry = self.fetched.setdefault(host[:MAX_NAME], Traffic())
        entry.requests += 1
        return entry

    def refuse(self, host: str, reason: str, *, is_forbidden: bool) -> None:
        """Keep the reason for the refusal of a host."""
        entries = self.forbidden if is_forbidden else self.refused
        if self._has_room(entries, host):
            entries[host[:MAX_NAME]] = reason[:MAX_NAME]

    def _has_room(self, entries: Collection[str], host: str) -> bool:
        has_room = host[:MAX_NAME] in entries or len(entries) < MAX_ENTRIES
        self.is_complete = self.is_complete and has_room
        return has_room

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: bytes) -> Report:
        """Read `as_dict` as JSON, written by a process to which strangers talk. Raises ValueError if it is wrong."""
        from pydantic import TypeAdapter  # slow to import, and the proxy itself does not need it

        if len(data) > MAX_BYTES:
            raise ValueError("the report is too long")
        return TypeAdapter(cls).validate_json(data)

    def log_hosts(self) -> None:
        """Log one line for each host."""
        for host, traffic in sorted(self.fetched.items()):
            log.info("network: %s: %d requests, %d bytes", host, traffic.requests, traffic.bytes)
        for host, reason in sorted((self.refused | self.forbidden).items()):
            log.warning("network: %s was refused: %s", host, reason)

    def explain(self, error: ImsError, policy_hint: str) -> None:
        """Name the refused hosts in an error of the program, with the field or setting that would allow them."""
        for entries, hint in ((self.refused, policy_hint), (self.forbidden, HINT)):
            if entries:
                more = f" and {len(entries) - NAMED} more" if len(entries) > NAMED else ""
                error.reason += f"; connections refused: {', '.join(list(entries)[:NAMED])}{more}"
                error.hint = f"{hint}. {error.hint}" if error.hint else hint
