"""How our errors end a task."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from ims.errors import PERMANENT_EXIT_CODES, ImsError

log = logging.getLogger("airflow.task")

FAILURE = "failure"
"""Key of the XCom that holds a failed task's reason in one sentence."""


@contextmanager
def task_errors(context: Context) -> Iterator[None]:
    """End the task with the reason of an ImsError: for good if trying again cannot help."""
    try:
        yield
    except ImsError as error:
        log.error("%s", error)
        context["ti"].xcom_push(FAILURE, str(error))
        permanent = error.exit_code in PERMANENT_EXIT_CODES
        raise (AirflowFailException if permanent else AirflowException)(str(error)) from None
