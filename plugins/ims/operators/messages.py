"""The task that sends a message about a night, through Airflow's notifier for Apprise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow.sdk import BaseHook, Connection, Context
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from ims.errors import ConfigurationError
from ims.nights import NightSummary, PausedImage, PausedRecipe
from ims.operators.base import ImsOperator
from ims.settings import settings

CONNECTION = "ims_notify"
LENGTH = 4000
"""The most characters of a message that chat services accept."""


class NotifyOperator(ImsOperator):
    """Sends the summary of a night to the addresses in the connection `ims_notify`. Sends nothing without it."""

    template_fields = (*ImsOperator.template_fields, "summary")

    def __init__(self, *, summary: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.summary = summary

    def perform(self, context: Context) -> None:
        """Raises ConfigurationError: the connection has no address. The log tells if a service refuses the message."""
        try:
            connection = BaseHook.get_connection(CONNECTION)
        except AirflowNotFoundException:
            self.log.info("no message was sent: there is no connection %s", CONNECTION)
            return
        _mask_addresses(connection)
        # It takes a second to import, so only this task imports it.
        from airflow.providers.apprise.notifications.apprise import AppriseNotifier

        url = settings().run_url(context["dag"].dag_id, str(context["run_id"]))
        summary = NightSummary(**self.summary) if self.summary else None
        AppriseNotifier(title=title(summary), body=body(summary, url), apprise_conn_id=CONNECTION).notify(context)


def title(summary: NightSummary | None) -> str:
    """The result in one line. The night has no summary if an early task failed."""
    return f"Nightly images: {summary.sentence if summary else 'the night failed, see its log'}"


def body(summary: NightSummary | None, url: str) -> str:
    """The failed recipes with reasons, then the paused ones, then the others by name; the last line is the address."""
    lines = [*(_lines(summary) if summary else ()), url]
    text = "\n".join("".join(char if char.isprintable() else "?" for char in line) for line in lines)
    return text if len(text) <= LENGTH else f"{text[: LENGTH - len(url) - 3]}…\n{url}"


def _lines(summary: NightSummary) -> Iterator[str]:
    for outcome in ("failed", "skipped"):
        for result in summary.results:
            if result.outcome == outcome:
                yield f"{outcome}: {result.name}: {result.reason}"
    paused: list[PausedRecipe | PausedImage] = [*summary.paused, *summary.paused_images]
    for item in paused:
        yield f"paused after {item.failures} failed nights: {item.name}"
    for outcome in ("built", "unchanged"):
        names = [result.name for result in summary.results if result.outcome == outcome]
        if names:
            yield f"{outcome}: {', '.join(names)}"


def _mask_addresses(connection: Connection) -> None:
    """Mask the addresses of a connection in the log: they contain passwords and tokens.

    Raises ConfigurationError: the connection has none.
    """
    config = connection.extra_dejson.get("config")
    entries = config if isinstance(config, list) else [config]
    addresses = [entry.get("path") if isinstance(entry, dict) else None for entry in entries]
    if not addresses or not all(isinstance(address, str) and address for address in addresses):
        raise ConfigurationError(
            f"the connection {CONNECTION} has no address to send messages to",
            'Set its extra to {"config": [{"path": "ADDRESS"}]}',
        )
    for address in addresses:
        mask_secret(address)
