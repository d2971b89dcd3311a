"""The numbers of nights in a row that recipes and customized images failed, in their records."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TypeVar

from ims.client import ImsClient
from ims.errors import PermanentError
from ims.nights import RecipeState

log = logging.getLogger("airflow.task")

State = TypeVar("State", bound=RecipeState)


def count_failures(client: ImsClient, path: str, state: type[State], counts: Mapping[str, int]) -> list[State]:
    """Sets the failures of the records at `path` to `counts`, which has them by id; returns all records, oldest first.

    The counts include this night, so another try of the task changes nothing.
    """
    records = [state(**record) for record in client.get(path)]
    for record in records:
        failures = counts.get(record.id, record.nightly_failures)
        if failures != record.nightly_failures:
            try:
                client.update(f"{path}/{record.id}", nightly_failures=failures)
            except PermanentError as error:  # for example, the record was deleted meanwhile
                log.warning("the failures of %s are not counted: %s", record.name, error)
            record.nightly_failures = failures
    return records
