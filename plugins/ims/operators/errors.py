"""How errors end a task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Never

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout, TaskDeferralTimeout

from ims.errors import ImsError, PermanentError, UnavailableError, disk_full
from ims.settings import settings
from ims.workflows import ENVIRONMENT_FAILED, FAILURE, FETCH_RECIPE, find_workflow

log = logging.getLogger("airflow.task")


@contextmanager
def task_errors(context: Context) -> Iterator[None]:
    """Turn an ImsError or a full disk into the failure of the task, and keep the reason for the API.

    Raises AirflowFailException: another try cannot help. Raises AirflowException: another try may help.
    """
    try:
        yield
    except ImsError as error:
        fail(context, error, permanent=error.permanent)
    except OSError as error:
        full = disk_full(error)
        if full is None:
            raise
        fail(context, full, permanent=full.permanent)


@contextmanager
def time_limit(task: BaseOperator, context: Context) -> Iterator[None]:
    """Turn the exception with which Airflow ends a task that takes too long into an ImsError, and end its processes."""
    try:
        yield
    except (AirflowTaskTimeout, TaskDeferralTimeout):
        task.on_kill()
        raise out_of_time(task, context) from None


def out_of_time(task: BaseOperator, context: Context) -> ImsError:
    """The error of a task that took too long.

    Another try cannot help if the task runs what a recipe or a user wrote, unless it waited for a repository that does
    not answer.
    """
    assert task.execution_timeout is not None
    limit, hint = round(task.execution_timeout.total_seconds()), "IMS_STEP_SECONDS sets the limits of tasks"
    reason = f"it took longer than its limit of {limit} s and was ended"
    if not _runs_recipe(task.task_id, context):
        return UnavailableError(reason, hint)
    if gone := _gone_repositories(context):
        return UnavailableError(f"{reason}; repositories that are not available: {gone}", hint)
    return PermanentError(reason, hint)


def _gone_repositories(context: Context) -> str:
    """The repositories of a job that do not answer now, with reasons; empty if all do, or if they are not known."""
    # These take a while to import, and few tasks need them.
    from ims.recipes.availability import ask_all
    from ims.recipes.description import Repository

    found = context["ti"].xcom_pull(task_ids=FETCH_RECIPE, key="repositories") or ()
    answers = asyncio.run(ask_all([Repository(**item) for item in found], settings().ca_certificate_path))
    return ", ".join(str(answer) for answer in answers if not answer.ready)


def fail(context: Context, error: ImsError, *, permanent: bool) -> Never:
    """End the task and keep the reason. Raises AirflowFailException if it is `permanent`, else AirflowException.

    An error of no known kind is one of the environment, unless the task runs what a recipe or a user wrote.
    """
    context["ti"].xcom_push(FAILURE, str(error))
    is_unknown = error.exit_code == ImsError.exit_code
    if error.is_environmental or (is_unknown and not _runs_recipe(context["ti"].task_id, context)):
        context["ti"].xcom_push(ENVIRONMENT_FAILED, True)
    raise (AirflowFailException if permanent else AirflowException)(str(error)) from None


def _runs_recipe(task_id: str, context: Context) -> bool:
    workflow = find_workflow(context["dag"].dag_id)
    return workflow is not None and workflow.task(task_id).runs_recipe


def log_reason(context: Context) -> None:
    """Log why a task failed. A callback: Airflow calls it after the traceback, so the reason is the last line."""
    error = context.get("exception")
    if error is None:
        return
    log.info("::endgroup::")  # the reason stays visible when the UI folds the group of lines after the traceback
    log.error("%s", error if isinstance(error, AirflowException) else f"{type(error).__name__}: {error}")
