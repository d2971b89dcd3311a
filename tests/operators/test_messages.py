"""The text of a message about a night."""

from __future__ import annotations

from typing import Any

from ims.operators.messages import LENGTH, body, title

URL = "http://127.0.0.1:8080/dags/nightly_images/runs/x"


def recipe(name: str, outcome: str, reason: str | None = None) -> dict[str, Any]:
    """What the summary has of a recipe."""
    return {"name": name, "outcome": outcome, "reason": reason}


def test_message() -> None:
    """What failed comes first, with its reason; the end says where to look."""
    recipes = [recipe("a", "built"), recipe("b", "failed", "build_image: no"), recipe("c", "unchanged")]
    summary = {"recipes": [*recipes, recipe("d", "unchanged")], "paused": [{"name": "b", "failures": 3}]}
    assert title(summary) == "Nightly images: 1 failed, 1 built, 2 unchanged"
    assert body(summary, URL).splitlines() == [
        "failed: b: build_image: no",
        "paused after 3 failed nights: b",
        "built: a",
        "unchanged: c, d",
        URL,
    ]


def test_nothing_to_do() -> None:
    """A message all the same: silence would look like a night that did not begin."""
    summary: dict[str, Any] = {"recipes": [], "paused": []}
    assert title(summary) == "Nightly images: nothing was built"
    assert body(summary, URL) == URL


def test_hostile_names() -> None:
    """A name cannot begin a line of its own, and however much there is to say the address stays."""
    evil = "x\nfailed: y: z\x1b[31m"
    summary = {"recipes": [recipe(evil, "failed", "r" * 500) for _ in range(100)], "paused": []}
    text = body(summary, URL)
    assert len(text) <= LENGTH
    assert text.endswith(f"\n{URL}")
    assert "\x1b" not in text
    assert all(line.startswith("failed: x?failed: y: z?[31m: r") for line in text.splitlines()[:5])
