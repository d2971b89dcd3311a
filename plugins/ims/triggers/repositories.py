"""Waits in the triggerer for the repositories of a recipe."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from ims.errors import ImsError
from ims.recipes.availability import wait_for_all
from ims.recipes.description import Repository


class RepositoriesTrigger(BaseTrigger):
    """Fires when all repositories are available, or with the reason why one is not."""

    def __init__(self, repositories: list[dict[str, Any]], ca_certificate: str, until: float, interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.repositories = repositories
        self.ca_certificate = ca_certificate
        self.until = until
        self.interval = interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and the arguments from which another triggerer creates this trigger again."""
        return (
            "ims.triggers.repositories.RepositoriesTrigger",
            {
                "repositories": self.repositories,
                "ca_certificate": self.ca_certificate,
                "until": self.until,
                "interval": self.interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """The event's payload is {error, hint, exit_code}, or empty. The exit code is that of the error."""
        repositories = [Repository(**repository) for repository in self.repositories]
        try:
            await wait_for_all(repositories, Path(self.ca_certificate), until=self.until, interval=self.interval)
        except ImsError as error:
            yield TriggerEvent({"error": error.reason, "hint": error.hint, "exit_code": error.exit_code})
        else:
            yield TriggerEvent({})
