"""What hints say about starting the service follows from whether systemd runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ims.settings import Settings
from ims.stack import starting


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with a home; there are no units."""
    monkeypatch.setattr(starting, "FOLDER", tmp_path)
    return Settings(home=tmp_path)


def test_make(own: Settings) -> None:
    """Without units, make starts the service, and its processes log in its home."""
    assert (starting.start_command(), starting.restart_command()) == ("make up", "make down up")
    assert starting.see_logs(own) == f"See the logs in {own.home}/logs"


def test_systemd(own: Settings) -> None:
    """With units, systemd does, and the processes log in the journal."""
    (own.home / starting.TARGET).touch()
    assert starting.start_command() == "systemctl start ims.target"
    assert starting.restart_command() == "systemctl restart ims.target"
    assert starting.see_logs(own) == "See journalctl -u 'ims-*'"
