"""The table that `ims recipes plan` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.fake_service import FakeService, connect_to

INPUTS = [
    {"name": "files", "observed": "sha256:" + "a" * 64, "before": "sha256:b", "changed": True, "opaque": ""},
    {"name": "arch", "observed": "x86_64", "before": "x86_64", "changed": False, "opaque": ""},
    {"name": "not observed", "observed": None, "before": None, "changed": None, "opaque": "network: open"},
]


def test_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A table of all inputs for people, everything for programs."""
    fake = FakeService()
    recipe = fake.add("recipes", "site")
    plan = {"recipe_id": recipe, "verdict": "repack", "reason": "files changed", "inputs": INPUTS}
    fake.answers[f"recipes/{recipe}/plan"] = plan
    program = connect_to(fake, monkeypatch, tmp_path)
    rows = [line.split() for line in program.run("recipes", "plan", "site").stdout.splitlines() if line]
    assert rows[-4:] == [
        ["INPUT", "OBSERVED", "CHANGED"],
        ["files", f"sha256:{'a' * 12}", "yes"],
        ["arch", "x86_64", "no"],
        ["not", "observed", "opaque:", "network:", "open", "unknown"],
    ]
    assert program.json("recipes", "plan", "site") == plan
