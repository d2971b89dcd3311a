"""The runs of all our workflows, whoever asks.

What the clean-up removes and which ids are free depends on every run, not on those that the caller of a request may
see. Airflow's API answers with the permissions of a caller, so this module asks Airflow's models instead.
"""

from __future__ import annotations

from collections.abc import Iterable

from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState

from ims.api.runs.runs import Run
from ims.api.runs.states import RUN_NOT_ENDED
from ims.workflows import DAG_IDS, JOB_DAG_IDS, OPEN_WORKSPACE


def unfinished_runs() -> list[Run]:
    """Returns the queued and running runs, without their steps."""
    found = [run for state in RUN_NOT_ENDED for run in DagRun.find(dag_id=list(DAG_IDS), state=DagRunState(state))]
    return [_run(item) for item in found]


def dags_with_run(run_id: str) -> list[str]:
    """Returns the ids of our DAGs that have a run with this id."""
    return [run.dag_id for run in DagRun.find(dag_id=list(DAG_IDS), run_id=[run_id])]


def images_in_progress(runs: Iterable[Run]) -> set[str]:
    """Returns the ids of the images that jobs have chosen and upload, or will upload."""
    found: set[str] = set()
    with create_session() as session:
        for run in runs:
            if run.dag_id in JOB_DAG_IDS:
                query = XComModel.get_many(
                    run_id=run.run_id, dag_ids=run.dag_id, task_ids=OPEN_WORKSPACE, key="image_id"
                )
                found |= {str(XComModel.deserialize_value(entry)) for entry in session.scalars(query)}
    return found


def recorded_archs(runs: Iterable[Run]) -> dict[str, str]:
    """Returns the architectures of what jobs work on, by job id, if the jobs have begun.

    Whoever sees a run may know it, even if the record is gone.
    """
    found: dict[str, str] = {}
    with create_session() as session:
        for run in runs:
            query = XComModel.get_many(run_id=run.run_id, dag_ids=run.dag_id, task_ids=OPEN_WORKSPACE, key="arch")
            if (entry := session.scalars(query).first()) is not None:
                found[run.job_id] = str(XComModel.deserialize_value(entry))
    return found


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
