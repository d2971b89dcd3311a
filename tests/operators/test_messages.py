"""The message about a night."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import BaseHook, Connection, Context
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from ims.nights import NightRecipe, NightSummary, Outcome, PausedRecipe
from ims.operators import messages
from ims.operators.messages import LENGTH, NotifyOperator, body, title
from ims.settings import settings
from tests.operators.fakes import RUN_ID, make_context

URL = "http://127.0.0.1:8080/dags/nightly_images/runs/x"


def recipe(name: str, outcome: Outcome, reason: str | None = None) -> NightRecipe:
    """What the summary has of a recipe."""
    return NightRecipe(recipe_id=f"id-{name}", name=name, outcome=outcome, reason=reason)


def test_message() -> None:
    """What failed comes first, with its reason; the end says where to look."""
    recipes = [recipe("a", "built"), recipe("b", "failed", "build_image: no"), recipe("c", "unchanged")]
    paused = PausedRecipe(recipe_id="id-b", name="b", failures=3)
    summary = NightSummary(recipes=[*recipes, recipe("d", "unchanged")], paused=[paused])
    assert title(summary) == "Nightly images: 1 failed, 1 built, 2 unchanged, 1 paused"
    assert body(summary, URL).splitlines() == [
        "failed: b: build_image: no",
        "paused after 3 failed nights: b",
        "built: a",
        "unchanged: c, d",
        URL,
    ]


def test_nothing_to_do() -> None:
    """A message all the same: silence would look like a night that did not begin."""
    summary = NightSummary(recipes=[], paused=[])
    assert title(summary) == "Nightly images: nothing to do: no recipe is due"
    assert body(summary, URL) == URL


def test_night_without_a_summary() -> None:
    """A night that failed early does not look like one that had nothing to do."""
    assert title(None) == "Nightly images: the night failed, see its log"
    assert body(None, URL) == URL


def test_hostile_names() -> None:
    """A name cannot begin a line of its own, and however much there is to say the address stays."""
    evil = "x\nfailed: y: z\x1b[31m"
    summary = NightSummary(recipes=[recipe(evil, "failed", "r" * 500) for _ in range(100)], paused=[])
    text = body(summary, URL)
    assert len(text) <= LENGTH
    assert text.endswith(f"\n{URL}")
    assert "\x1b" not in text
    assert all(line.startswith("failed: x?failed: y: z?[31m: r") for line in text.splitlines()[:5])


SUMMARY = NightSummary(recipes=[recipe("a", "failed", "build_image: no")], paused=[]).model_dump(mode="json")


def notify(monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any] | None, summary: Any = SUMMARY) -> list[Any]:
    """Run the task with a connection of this extra, or without one; returns the messages that were sent."""
    sent: list[Any] = []

    def get_connection(_name: str) -> Connection:
        if extra is None:
            raise AirflowNotFoundException("there is no such connection")
        return Connection(conn_id=messages.CONNECTION, conn_type="apprise", extra=json.dumps(extra))

    class Notifier:
        """Keeps messages."""

        def __init__(self, **message: Any) -> None:
            self.message = message

        def notify(self, _context: Context) -> None:
            """Keep the message."""
            sent.append(self.message)

    monkeypatch.setattr(BaseHook, "get_connection", get_connection)
    monkeypatch.setattr("airflow.providers.apprise.notifications.apprise.AppriseNotifier", Notifier)
    NotifyOperator(task_id="notify", summary=summary).execute(make_context("nightly_images"))
    return sent


def test_message_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the connection, with the address of the night; secrets in the addresses are masked in logs."""
    masked: list[str] = []
    monkeypatch.setattr(messages, "mask_secret", masked.append)
    addresses = [{"path": "json://user:secret@chat.test"}, {"path": "mailtos://mail.test"}]
    (message,) = notify(monkeypatch, {"config": addresses})
    assert message["title"] == "Nightly images: 1 failed, 0 built, 0 unchanged"
    assert message["body"].splitlines() == [
        "failed: a: build_image: no",
        settings().run_url("nightly_images", RUN_ID),
    ]
    assert message["apprise_conn_id"] == "ims_notify"
    assert masked == ["json://user:secret@chat.test", "mailtos://mail.test"]


def test_message_without_a_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The night failed before there was one."""
    (message,) = notify(monkeypatch, {"config": {"path": "json://chat.test"}}, summary=None)
    assert message["title"] == "Nightly images: the night failed, see its log"


def test_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation need not send messages."""
    assert notify(monkeypatch, None) == []


@pytest.mark.parametrize(
    "extra", [{}, {"config": []}, {"config": [{"path": ""}]}, {"config": ["json://x"]}, {"path": "x"}]
)
def test_connection_without_an_address(monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any]) -> None:
    """The task says what to set."""
    with pytest.raises(AirflowFailException, match=r"ims_notify has no address to send messages to\. Set its extra"):
        notify(monkeypatch, extra)
