"""The task that waits until all repositories of the recipe are available."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

from airflow.sdk import Context

from ims.errors import error_of
from ims.operators.base import ImsOperator
from ims.operators.errors import fail
from ims.recipes.availability import ask_all, missing
from ims.recipes.description import Repository
from ims.settings import settings
from ims.triggers.repositories import RepositoriesTrigger
from ims.workflows import WAITS_FOR

MARGIN_SECONDS = 300
"""How long after the timeout the scheduler ends the wait if the triggerer has not."""


class RepositoriesSensor(ImsOperator):
    """Asks each repository once. If one is not available, the triggerer continues to ask.

    `repositories` are Repository models as JSON; `timeout` is in seconds.
    """

    template_fields = (*ImsOperator.template_fields, "repositories", "timeout")

    def __init__(self, *, repositories: Any, timeout: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.repositories = repositories
        self.timeout = timeout

    def perform(self, context: Context) -> None:
        """End at once if all repositories are available, else hand over to the triggerer."""
        repositories = [Repository(**repository) for repository in self.repositories]
        certificate = settings().ca_certificate_path
        self.log.info("asking %d repositories: %s", len(repositories), ", ".join(r.name for r in repositories))
        text = missing(asyncio.run(ask_all(repositories, certificate)))
        if not text:
            return
        waits_for = f"waiting up to {self.timeout} s for {text}"
        self.log.info("%s", waits_for)
        context["ti"].xcom_push(WAITS_FOR, waits_for)
        self.defer(
            trigger=RepositoriesTrigger(
                repositories=self.repositories,
                ca_certificate=str(certificate),
                until=time.time() + self.timeout,
                interval=settings().repository_poll,
            ),
            method_name="resume",
            timeout=timedelta(seconds=self.timeout + MARGIN_SECONDS),
        )

    def resume(self, context: Context, event: dict[str, Any]) -> None:
        """Continue with the job, or end it with the reason that the trigger found."""
        if event:
            # The wait took as long as the job allows; another try would only wait as long again.
            fail(context, error_of(event["exit_code"], event["error"], event["hint"]), permanent=True)
        self.log.info("all repositories are available")
