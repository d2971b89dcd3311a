"""How errors end a task."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Never

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from ims.errors import ImsError, disk_full
from ims.workflows import FAILURE

log = logging.getLogger("airflow.task")


@contextmanager
def task_errors(context: Context) -> Iterator[None]:
    """Turn an ImsError or a full disk into the failure of the task, and keep the reason for the API.

    Raises AirflowFailException: another try cannot help. Raises AirflowException: another try may help.
    """
    try:
        yield
    except ImsError as error:
        _fail(context, error)
    except OSError as error:
        full = disk_full(error)
        if full is None:
            raise
        _fail(context, full)


def _fail(context: Context, error: ImsError) -> Never:
    context["ti"].xcom_push(FAILURE, str(error))
    raise (AirflowFailException if error.permanent else AirflowException)(str(error)) from None


def log_reason(context: Context) -> None:
    """Log why a task failed. A callback: Airflow calls it after the traceback, so the reason is the last line."""
    error = context.get("exception")
    if error is None:
        return
    log.info("::endgroup::")  # the reason stays visible when the UI folds the group of lines after the traceback
    log.error("%s", error if isinstance(error, AirflowException) else f"{type(error).__name__}: {error}")
