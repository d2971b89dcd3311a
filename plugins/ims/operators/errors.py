"""How our errors end a task."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Never

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from ims.errors import PERMANENT_EXIT_CODES, ImsError, disk_full
from ims.workflows import FAILURE

log = logging.getLogger("airflow.task")


@contextmanager
def task_errors(context: Context) -> Iterator[None]:
    """End the task with the reason of an ImsError or a full disk: for good if trying again cannot help."""
    try:
        yield
    except ImsError as error:
        _end(context, error)
    except OSError as error:
        full = disk_full(error)
        if full is None:
            raise
        _end(context, full)


def _end(context: Context, error: ImsError) -> Never:
    log.error("%s", error)
    context["ti"].xcom_push(FAILURE, str(error))
    permanent = error.exit_code in PERMANENT_EXIT_CODES
    raise (AirflowFailException if permanent else AirflowException)(str(error)) from None
