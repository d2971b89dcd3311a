"""What running jobs use. The answer does not depend on who asks."""

from __future__ import annotations

from collections.abc import Iterable

from ims.api.runs.every_run import unfinished_runs
from ims.api.runs.runs import Run
from ims.records.holds import Holds

_FIELDS = ("artifact_id", "public_key_id", "playbook")


def used_by(runs: Iterable[Run]) -> dict[str, str]:
    """Maps the ids of the records and the addresses of the objects that runs use to one of these jobs."""
    return {str(value): run.job_id for run in runs for field in _FIELDS if (value := run.conf.get(field)) is not None}


def holds_of_jobs() -> Holds:
    """The holds that running jobs put on records."""
    return Holds(used_by(unfinished_runs()))
