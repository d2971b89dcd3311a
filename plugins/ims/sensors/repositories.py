"""Seed step 7: wait until every repository of the recipe can be used."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from airflow.sdk import BaseOperator, Context

from ims.errors import InputError
from ims.operators.errors import task_errors
from ims.recipes.availability import ask_all, missing
from ims.recipes.description import Repository
from ims.settings import settings
from ims.triggers.repositories import RepositoriesTrigger


class RepositoriesSensor(BaseOperator):
    """Asks once here; if any repository is not ready, the triggerer asks on."""

    template_fields = ("repositories", "timeout")

    def __init__(self, *, repositories: Any, timeout: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.repositories = repositories
        self.timeout = timeout

    def execute(self, context: Context) -> None:
        """End at once if all are ready, else defer."""
        repositories = [Repository(**repository) for repository in self.repositories]
        certificate = settings().ca_certificate_path
        self.log.info("asking %d repositories: %s", len(repositories), ", ".join(r.name for r in repositories))
        with task_errors(context):
            text = missing(asyncio.run(ask_all(repositories, certificate)))
        if not text:
            return
        self.log.info("waiting up to %s s for %s", self.timeout, text)
        self.defer(
            trigger=RepositoriesTrigger(
                repositories=self.repositories,
                ca_certificate=str(certificate),
                until=time.time() + self.timeout,
                interval=settings().repository_poll,
            ),
            method_name="resume",
        )

    def resume(self, context: Context, event: dict[str, Any]) -> None:
        """Take the trigger's word."""
        with task_errors(context):
            if event:
                # The wait was as long as the job allows: another try would only wait as long again.
                raise InputError(event["error"], event["hint"])
        self.log.info("all repositories are ready")
