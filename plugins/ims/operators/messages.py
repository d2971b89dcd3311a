"""The message about a night, through Airflow's notifier for the services that Apprise knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow.sdk import BaseHook, BaseOperator, Connection, Context
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from ims.errors import ConfigurationError
from ims.operators.errors import task_errors
from ims.settings import settings

CONNECTION = "ims_notify"
LENGTH = 4000
"""Characters; chats take no more."""
OUTCOMES = ("failed", "built", "unchanged")


class NotifyOperator(BaseOperator):
    """Sends what became of a night to where the connection `ims_notify` says; without the connection to nobody."""

    template_fields = ("summary",)

    def __init__(self, *, summary: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.summary = summary

    def execute(self, context: Context) -> None:
        """Fails where the connection cannot be used; whether a service took the message is in the log."""
        try:
            connection = BaseHook.get_connection(CONNECTION)
        except AirflowNotFoundException:
            self.log.info("there is no connection %s: nobody is told", CONNECTION)
            return
        with task_errors(context):
            _hide_addresses(connection)
        # It takes a second to import: only who sends messages pays.
        from airflow.providers.apprise.notifications.apprise import AppriseNotifier

        url = settings().run_url(context["dag"].dag_id, str(context["run_id"]))
        summary = self.summary or {"recipes": [], "paused": []}
        AppriseNotifier(title=title(summary), body=body(summary, url), apprise_conn_id=CONNECTION).notify(context)


def title(summary: Mapping[str, Any]) -> str:
    """The outcome in a line."""
    outcomes = [recipe["outcome"] for recipe in summary["recipes"]]
    if not outcomes:
        return "Nightly images: nothing was built"
    return "Nightly images: " + ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in OUTCOMES)


def body(summary: Mapping[str, Any], url: str) -> str:
    """What failed and why first, then what is paused, the rest by name; ends with where to look."""
    lines = [*_lines(summary), url]
    text = "\n".join("".join(char if char.isprintable() else "?" for char in line) for line in lines)
    return text if len(text) <= LENGTH else f"{text[: LENGTH - len(url) - 3]}…\n{url}"


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    for recipe in summary["recipes"]:
        if recipe["outcome"] == "failed":
            yield f"failed: {recipe['name']}: {recipe['reason']}"
    for recipe in summary["paused"]:
        yield f"paused after {recipe['failures']} failed nights: {recipe['name']}"
    for outcome in OUTCOMES[1:]:
        names = [recipe["name"] for recipe in summary["recipes"] if recipe["outcome"] == outcome]
        if names:
            yield f"{outcome}: {', '.join(names)}"


def _hide_addresses(connection: Connection) -> None:
    """Keep the connection's addresses, which hold passwords and tokens, out of the log.

    Raises ConfigurationError: it has none.
    """
    config = connection.extra_dejson.get("config")
    entries = config if isinstance(config, list) else [config]
    addresses = [entry.get("path") if isinstance(entry, dict) else None for entry in entries]
    for address in addresses:
        if not isinstance(address, str) or not address:
            raise ConfigurationError(
                f"the connection {CONNECTION} does not name where messages go",
                'Its extra has to be {"config": [{"path": "ADDRESS"}]}',
            )
        mask_secret(address)
