"""Starting a run of another workflow from a task."""

from __future__ import annotations

from typing import Any

from ims.errors import UnavailableError


def start_run(dag_id: str, run_id: str, conf: dict[str, Any]) -> None:
    """Start a run, unless there is one with this id. Raises UnavailableError if Airflow does not start it.

    Airflow's TriggerDagRunOperator starts runs, too, but waits forever for one that is deleted.
    """
    # Not at the top: DAG files import this module.
    from airflow.sdk.exceptions import ErrorType
    from airflow.sdk.execution_time.comms import ErrorResponse, TriggerDagRun
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    answer = SUPERVISOR_COMMS.send(TriggerDagRun(dag_id=dag_id, run_id=run_id, conf=conf))
    if isinstance(answer, ErrorResponse) and answer.error != ErrorType.DAGRUN_ALREADY_EXISTS:
        raise UnavailableError(f"Airflow did not start the run {run_id} of {dag_id}: {answer.error.value}")
