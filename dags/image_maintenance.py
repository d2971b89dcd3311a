"""Maintenance: expire images, purge tombstones and sweep what ended jobs left. The first tasks list what will go.

Meanwhile, another task reads the objects of images in S3, and marks the images with damaged ones.
"""

from airflow.sdk import DAG

from ims.operators.base import task_defaults
from ims.operators.conditions import none_of
from ims.operators.dag_arguments import RUN_TYPES, limit_tasks, params_of, run_limit, timetable
from ims.operators.maintenance import CleanRecordsOperator, CleanWorkspacesOperator
from ims.operators.scrub import ScrubImagesOperator
from ims.settings import settings
from ims.workflows import IMAGE_MAINTENANCE

with DAG(
    IMAGE_MAINTENANCE.dag_id,
    description="Delete images, records and files that are no longer needed",
    doc_md=__doc__,
    schedule=timetable(settings().maintenance_schedule),
    catchup=False,
    allowed_run_types=RUN_TYPES,
    max_active_runs=1,
    params=params_of(IMAGE_MAINTENANCE.params),
    dagrun_timeout=run_limit(IMAGE_MAINTENANCE),
    default_args=task_defaults(),
    tags=["images"],
) as dag:
    lists = [
        CleanRecordsOperator(task_id="list_records", list_only=True),
        CleanWorkspacesOperator(task_id="list_workspaces", list_only=True),
    ]
    records = CleanRecordsOperator(task_id="sweep_records", list_only=False, run_if=none_of(dag.param("dry_run")))
    workspaces = CleanWorkspacesOperator(
        task_id="sweep_workspaces", list_only=False, run_if=none_of(dag.param("dry_run"))
    )

    # No other try: it would begin with what took too long. The next run goes on.
    ScrubImagesOperator(task_id="scrub_images", retries=0, run_if=none_of(dag.param("dry_run")))

    for sweep in (records, workspaces):
        lists >> sweep

    limit_tasks(dag, IMAGE_MAINTENANCE)
