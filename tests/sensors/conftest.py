"""Operators run here without Airflow's task runner."""

from __future__ import annotations

import pytest
from airflow.sdk.bases.operator import ExecutorSafeguard


@pytest.fixture(autouse=True)
def _call_execute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow refuses to call `execute` outside of its task runner, except in its own test mode."""
    monkeypatch.setattr(ExecutorSafeguard, "test_mode", True)
