"""The states of Airflow's runs and task instances."""

from __future__ import annotations

RUN_ENDED = frozenset({"success", "failed"})
RUN_NOT_ENDED = ("queued", "running")

_TASK_NEVER_RAN = frozenset({"skipped", "upstream_failed", "removed"})
TASK_NOT_BEGUN = frozenset({None, "none", "scheduled", "queued"}) | _TASK_NEVER_RAN
TASK_IDLE = frozenset({None, "none", "scheduled", "up_for_retry"})
"""The states in which a task instance waits for the scheduler."""
TASK_ENDED = frozenset({"success", "failed"}) | _TASK_NEVER_RAN
TASK_LOGS = frozenset({"running", "deferred"})
"""The states in which a task instance writes its log."""
