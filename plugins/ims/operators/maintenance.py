"""The tasks of the maintenance: list what is expired or left over, then remove it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from airflow.sdk import Context

from ims.cleaning import remove_all, summary
from ims.connections import api_client
from ims.errors import ImsError
from ims.operators.base import ImsOperator
from ims.runtime.choice import runtime
from ims.settings import settings

REQUEST_SECONDS = 3600
"""The first maintenance after a long time may have much to do."""
KEPT_ITEMS = 100
"""The maximum number of names of a kind in the result of a task. The log has more."""


class MaintenanceOperator(ImsOperator):
    """Removes what is expired or left over; with `list_only`, only lists it."""

    def __init__(self, *, list_only: bool, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.list_only = list_only

    def perform(self, context: Context) -> list[dict[str, Any]]:
        """Returns for each kind the number of items, their bytes, and the first names."""
        found = self.clean()
        verb = "would remove" if self.list_only else "removed"
        for kind in found:
            self.log.info("%s: %s %d, %d bytes", kind["kind"], verb, kind["count"], kind["bytes"])
            for name in kind["items"]:
                self.log.info("  %s", name)
        if not found:
            self.log.info("there is nothing to remove")
        return [{**kind, "items": kind["items"][:KEPT_ITEMS]} for kind in found]

    @abstractmethod
    def clean(self) -> list[dict[str, Any]]:
        """Returns what was removed, or would be, by kind. Raises ImsError."""


class CleanRecordsOperator(MaintenanceOperator):
    """Expires and purges records and their objects in S3. The API decides which."""

    def clean(self) -> list[dict[str, Any]]:
        """Asks the API to list or to remove. Raises ImsError if it could not remove some items."""
        answer = api_client().call("POST", "maintenance", json={"dry_run": self.list_only}, timeout=REQUEST_SECONDS)
        _report(answer["failed"])
        return list(answer["freed"])


class CleanWorkspacesOperator(MaintenanceOperator):
    """Sweeps workspaces, shells and caches, where steps run."""

    def clean(self) -> list[dict[str, Any]]:
        """Removes every item it can. Raises ImsError if it cannot remove some."""
        client = api_client()
        found = runtime().leftovers(lambda: client.get("maintenance")["workspaces"], settings().orphan_hours)
        if self.list_only:
            return summary(found)
        removed, failed = remove_all(found)
        _report(failed)
        return summary(removed)


def _report(failed: list[str]) -> None:
    """Raises ImsError with the names of the items that could not be removed, if there are any."""
    if failed:
        raise ImsError(f"{len(failed)} items cannot be removed: {', '.join(failed[:KEPT_ITEMS])}", "See the log")
