"""The tasks of the maintenance: list what is expired or left over, then delete it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from airflow.sdk import Context

from ims.cleaning import Finding, summary
from ims.connections import api_client
from ims.errors import ImsError
from ims.operators.base import ImsOperator
from ims.runtime.choice import runtime
from ims.settings import settings

REQUEST_SECONDS = 3600
"""The first maintenance after a long time may find very much."""
KEPT_ITEMS = 100
"""The number of names of a kind in the result of a task; its log has all."""


class MaintenanceOperator(ImsOperator):
    """Lists what the maintenance would delete or, with `frees`, deletes it."""

    def __init__(self, *, frees: bool, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.frees = frees

    def perform(self, context: Context) -> list[dict[str, Any]]:
        """Returns for each kind the number of items, their bytes, and the first names."""
        found = self.clean()
        verb = "freed" if self.frees else "would free"
        for kind in found:
            self.log.info("%s: %s %d, %d bytes", kind["kind"], verb, kind["count"], kind["bytes"])
            for name in kind["items"]:
                self.log.info("  %s", name)
        if not found:
            self.log.info("there is nothing to delete")
        return [{**kind, "items": kind["items"][:KEPT_ITEMS]} for kind in found]

    @abstractmethod
    def clean(self) -> list[dict[str, Any]]:
        """Returns by kind what was deleted, or would be. Raises ImsError."""


class CleanRecordsOperator(MaintenanceOperator):
    """Expires and purges records and their objects in S3. The API decides which."""

    def clean(self) -> list[dict[str, Any]]:
        """Asks the API to list or to delete."""
        answer = api_client().call("POST", "maintenance", json={"dry_run": not self.frees}, timeout=REQUEST_SECONDS)
        return list(answer["freed"])


class CleanWorkspacesOperator(MaintenanceOperator):
    """Sweeps workspaces, shells and caches, where steps run."""

    def clean(self) -> list[dict[str, Any]]:
        """Deletes all that can be deleted. Raises ImsError: some items cannot."""
        client = api_client()
        found = runtime().leftovers(lambda: client.get("maintenance")["jobs"], settings().orphan_hours)
        return summary(self._remove(found) if self.frees else found)

    def _remove(self, found: Iterable[Finding]) -> list[Finding]:
        removed, failed = [], []
        for item in found:
            try:
                if item.remove():
                    removed.append(item)
            except (ImsError, OSError) as error:
                self.log.error("%s %s: %s", item.kind, item.name, error)
                failed.append(f"{item.kind} {item.name}")
        if failed:
            raise ImsError(f"{len(failed)} items cannot be deleted: {', '.join(failed[:KEPT_ITEMS])}", "See the log")
        return removed
