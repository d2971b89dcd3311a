"""The filter of jobs as parameters of a request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, get_args

from fastapi import Depends, Query

from ims.api.errors import UnusableError
from ims.api.http.lists import CreatedAfter, CreatedBefore
from ims.api.http.schemas import Arch, ImageName, Text
from ims.api.jobs.schemas import JobOut
from ims.api.runs.lists import RunFilter
from ims.api.runs.states import RUN_NOT_ENDED
from ims.workflows import JOB_WORKFLOWS, JobStatus, JobType

_AGE = re.compile(
    r"(?:(?P<weeks>[0-9]{1,4})w)?(?:(?P<days>[0-9]{1,5})d)?(?:(?P<hours>[0-9]{1,6})h)?(?:(?P<minutes>[0-9]{1,7})m)?"
)
_STATES: dict[str, set[str]] = {"success": {"success"}, "error": {"failed", *RUN_NOT_ENDED}}
"""The states in which Airflow can have the run of a job with a status; others are in RUN_NOT_ENDED."""


class JobFilter:
    """All given parameters must match; of several statuses, one must match."""

    def __init__(
        self,
        status: Annotated[
            list[Text] | None, Query(max_length=20, description="several are alternatives; in any case")
        ] = None,
        job_type: Annotated[Text | None, Query(description="`create` or `customize`, in any case")] = None,
        age: Annotated[Text | None, Query(max_length=50, description="older than this, such as 1w2d3h4m")] = None,
        name: Annotated[ImageName | None, Query(description="`image_root_archive_name`")] = None,
        arch: Annotated[Arch | None, Query()] = None,
        created_after: CreatedAfter = None,
        created_before: CreatedBefore = None,
    ) -> None:
        self._status = [_one_of(get_args(JobStatus), "status", text) for text in status or ()]
        self._job_type = None if job_type is None else _one_of(get_args(JobType), "job_type", job_type)
        self._name = name
        self._arch = arch
        self._after = created_after
        older = datetime.now(UTC) - parse_age(age) if age is not None else None
        self._before = min((moment for moment in (older, created_before) if moment is not None), default=None)

    @property
    def runs(self) -> RunFilter:
        """The filter of runs; it can let more jobs pass than `matches`."""
        states = set().union(*(_STATES.get(status, RUN_NOT_ENDED) for status in self._status))
        workflows = [workflow.dag_id for workflow in JOB_WORKFLOWS if self._job_type in (None, workflow.job_type)]
        return RunFilter(workflows, sorted(states) or None, self._after, self._before)

    def matches(self, job: JobOut) -> bool:
        """Whether a job of these runs passes the filter."""
        return (
            (not self._status or job.status in self._status)
            and self._name in (None, job.image_root_archive_name)
            and self._arch in (None, job.arch)
        )


def _one_of(known: Sequence[str], field: str, text: str) -> str:
    """Returns the value in lower case. Raises UnusableError if it is none of these."""
    if text.lower() not in known:
        raise UnusableError.of(field, f"{text!r} is none of {', '.join(known)}")
    return text.lower()


def parse_age(text: str) -> timedelta:
    """Returns an age such as 2d or 1w12h as a duration. Raises UnusableError."""
    match = _AGE.fullmatch(text)
    if not text or match is None:
        raise UnusableError.of("age", f"{text!r} is not an age such as 30m, 12h, 2d or 1w2d")
    return timedelta(**{unit: int(number) for unit, number in match.groupdict(default="0").items()})


JobFilterQuery = Annotated[JobFilter, Depends()]
