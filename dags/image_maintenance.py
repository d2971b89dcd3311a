"""Clean Up: images that need not stay, what was deleted long ago, and what jobs left behind. It is shown first."""

from datetime import timedelta

from airflow.sdk import DAG

from ims.operators.maintenance import CleanRecordsOperator, CleanWorkspacesOperator
from ims.operators.params import job_params
from ims.operators.schedules import timetable
from ims.settings import settings
from ims.workflows import IMAGE_MAINTENANCE

with DAG(
    IMAGE_MAINTENANCE.dag_id,
    description="Free what nobody needs any more",
    doc_md=__doc__,
    schedule=timetable(settings().maintenance_schedule),
    catchup=False,
    max_active_runs=1,
    params=job_params(IMAGE_MAINTENANCE.params),
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    tags=["images"],
) as dag:
    shown = [
        CleanRecordsOperator(task_id="list_records", frees=False),
        CleanWorkspacesOperator(task_id="list_workspaces", frees=False),
    ]
    records = CleanRecordsOperator(task_id="sweep_records", frees=True, only_show=dag.param("dry_run"))
    workspaces = CleanWorkspacesOperator(task_id="sweep_workspaces", frees=True, only_show=dag.param("dry_run"))

    for sweep in (records, workspaces):
        shown >> sweep
