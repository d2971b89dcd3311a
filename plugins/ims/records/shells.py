"""Reading and writing the shells of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import select

from ims.errors import MissingError
from ims.records.database import Database
from ims.records.models import Shell


class Shells:
    """The shells in a database. Each call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, job_id: str, fields: dict[str, Any]) -> Shell:
        """Store the shell of a job. Replaces an earlier one."""
        with self._database.session() as session:
            return session.merge(Shell(job_id=job_id, operation=None, closed=None, **fields))

    def get(self, job_id: str) -> Shell:
        """Returns the shell of a job. Raises MissingError if the job has none."""
        with self._database.reading() as session:
            return _found(session.get(Shell, job_id), job_id)

    def of_jobs(self, job_ids: Iterable[str]) -> dict[str, Shell]:
        """Maps those of the jobs that have a shell to it."""
        with self._database.reading() as session:
            found = session.scalars(select(Shell).where(Shell.job_id.in_(list(job_ids))))
            return {shell.job_id: shell for shell in found}

    def list_open(self) -> list[Shell]:
        """The open shells, ordered by the time when they close."""
        with self._database.reading() as session:
            return list(session.scalars(select(Shell).where(Shell.closed.is_(None)).order_by(Shell.until)))

    def change(self, job_id: str, change: Callable[[Shell], None]) -> Shell:
        """Apply `change` to a shell while its row is locked. Raises MissingError if the job has none."""
        with self._database.session() as session:
            shell = _found(session.get(Shell, job_id, with_for_update=True), job_id)
            change(shell)
            return shell


def _found(shell: Shell | None, job_id: str) -> Shell:
    if shell is None:
        raise MissingError(f"the job {job_id} has no shell")
    return shell
