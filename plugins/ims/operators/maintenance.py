"""The tasks of the clean-up: what nobody needs is shown, then it goes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

from ims.cleaning import Finding, summary
from ims.connections import api_client
from ims.errors import ImsError
from ims.operators.errors import task_errors
from ims.runtime.choice import runtime
from ims.settings import settings

LOOK_SECONDS = 3600
"""A clean-up after a long time may find very much."""
KEPT_ITEMS = 100
"""So many names of a kind are in the task's result; its log has more."""


class CleanUpTask(BaseOperator):
    """Shows what would go, or with `frees` has it go, which it skips where it is to be shown only."""

    template_fields = ("only_show",)

    def __init__(self, *, frees: bool, only_show: Any = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.frees = frees
        self.only_show = only_show

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Returns by kind how many things there were, their bytes, and some of their names."""
        if self.frees and self.only_show:
            raise AirflowSkipException("it is only to be shown")
        with task_errors(context):
            found = self.clean()
        for kind in found:
            verb = "freed" if self.frees else "would free"
            self.log.info("%s: %s %d, %d bytes", kind["kind"], verb, kind["count"], kind["bytes"])
            for name in kind["items"]:
                self.log.info("  %s", name)
        if not found:
            self.log.info("nothing is left behind")
        return [{**kind, "items": kind["items"][:KEPT_ITEMS]} for kind in found]

    @abstractmethod
    def clean(self) -> list[dict[str, Any]]:
        """Do it; returns what went or would go, by kind. Raises ImsError."""


class CleanRecordsOperator(CleanUpTask):
    """Records and objects in S3: our API decides and frees."""

    def clean(self) -> list[dict[str, Any]]:
        """See there."""
        answer = api_client().call("POST", "maintenance", json={"dry_run": not self.frees}, timeout=LOOK_SECONDS)
        return list(answer["freed"])


class CleanWorkspacesOperator(CleanUpTask):
    """Workspaces, shells and caches, where steps run."""

    def clean(self) -> list[dict[str, Any]]:
        """What cannot be removed keeps nothing else from being so."""
        client = api_client()
        found = runtime().leftovers(lambda: client.get("maintenance")["jobs"], settings().orphan_hours)
        return summary(self._removed(found) if self.frees else found)

    def _removed(self, found: Iterable[Finding]) -> list[Finding]:
        went, failed = [], []
        for item in found:
            try:
                if item.remove():
                    went.append(item)
            except (ImsError, OSError) as error:
                self.log.error("%s %s: %s", item.kind, item.name, error)
                failed.append(f"{item.kind} {item.name}")
        if failed:
            raise ImsError(f"{len(failed)} could not be removed: {', '.join(failed[:KEPT_ITEMS])}", "See the log")
        return went
