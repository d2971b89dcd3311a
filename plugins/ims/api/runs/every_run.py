"""The runs of all our workflows, whoever asks.

What the clean-up removes and which ids are free depends on every run, not on those that the caller of a request may
see. Airflow's API answers with the permissions of a caller, so this module asks Airflow's models instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState

from ims.api.runs.runs import Run
from ims.api.runs.states import RUN_NOT_ENDED
from ims.jobs import job_id
from ims.workflows import DAG_IDS, FAILURE, JOB_DAG_IDS, OPEN_WORKSPACE


def unfinished_runs() -> list[Run]:
    """Returns the queued and running runs, without their steps."""
    found = [run for state in RUN_NOT_ENDED for run in DagRun.find(dag_id=list(DAG_IDS), state=DagRunState(state))]
    return [_run(item) for item in found]


def dags_with_run(run_id: str) -> list[str]:
    """Returns the ids of our DAGs that have a run with this id."""
    return [run.dag_id for run in DagRun.find(dag_id=list(DAG_IDS), run_id=[run_id])]


def images_in_progress(runs: Iterable[Run]) -> set[str]:
    """Returns the ids of the images that jobs have chosen and upload, or will upload."""
    return {str(value) for value in _results(runs, "image_id", OPEN_WORKSPACE).values()}


def recorded_archs(runs: Iterable[Run]) -> dict[str, str]:
    """Returns the architectures of what jobs work on, by job id, if the jobs have begun.

    Whoever sees a run may know it, even if the record is gone.
    """
    return {job_id(result.run_id): str(value) for result, value in _results(runs, "arch", OPEN_WORKSPACE).items()}


def recorded_failures(runs: Iterable[Run]) -> dict[Result, str]:
    """Returns the reasons that failed tasks of jobs gave. Only for callers who may read the results of tasks."""
    return {result: str(value) for result, value in _results(runs, FAILURE).items()}


class Result(NamedTuple):
    """What a task instance of a run has pushed under a key."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1


def _results(runs: Iterable[Run], key: str, task: str | None = None) -> dict[Result, Any]:
    """Returns what the tasks of jobs have pushed under a key, by one query for all runs."""
    ids = [run.run_id for run in runs if run.dag_id in JOB_DAG_IDS]
    if not ids:
        return {}
    with create_session() as session:
        query = session.query(XComModel).filter(
            XComModel.key == key, XComModel.dag_id.in_(JOB_DAG_IDS), XComModel.run_id.in_(ids)
        )
        if task is not None:
            query = query.filter(XComModel.task_id == task)
        return {
            Result(entry.dag_id, entry.run_id, entry.task_id, entry.map_index): XComModel.deserialize_value(entry)
            for entry in query
        }


def _run(item: DagRun) -> Run:
    return Run(
        dag_id=item.dag_id,
        run_id=item.run_id,
        state=str(item.state),
        created=item.run_after,
        started=item.start_date,
        ended=item.end_date,
        conf=item.conf or {},
        note=None,
    )
