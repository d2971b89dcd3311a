"""`ims audit`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.fake_service import FakeService, connect_to

ENTRY = {
    "id": 2,
    "created": "2026-11-01T00:00:00+00:00",
    "who": "ada",
    "kind": "image",
    "record_id": "0c7d1a52-e4b3-4d21-9a92-1f0a6f6a2f11",
    "name": "site",
}
CHANGE = {**ENTRY, "action": "change", "before": {"pinned": False}, "after": {"pinned": True}}
DELETION = {**ENTRY, "action": "delete", "before": None, "after": None}


def test_audit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The table says which fields changed, and programs get what the API returned."""
    fake = FakeService(answers={"audit": [DELETION, CHANGE]})
    program = connect_to(fake, monkeypatch, tmp_path)
    head, deletion, change = program.run("audit", "--who", "ada", "--kind", "image").stdout.splitlines()
    assert head.split() == ["CREATED", "WHO", "ACTION", "KIND", "NAME", "RECORD", "ID", "CHANGED"]
    assert deletion.split()[-1] == ENTRY["record_id"]
    assert change.split()[-1] == "pinned"
    assert dict(fake.requests[-1].url.params) == {"who": "ada", "kind": "image", "limit": "100"}
    assert json.loads(program.run("audit", "-o", "json").stdout) == [DELETION, CHANGE]
