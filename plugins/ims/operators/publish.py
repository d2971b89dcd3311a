"""The end that all workflows share: artifacts to S3, then the manifest, then the record."""

from __future__ import annotations

from typing import Any

from airflow.providers.amazon.aws.operators.s3 import S3CreateObjectOperator
from airflow.sdk import BaseOperator, XComArg

from ims.connections import S3_CONNECTION
from ims.operators.job import CloseWorkspaceOperator, SaveImageRecordOperator
from ims.operators.step import StepOperator
from ims.settings import settings
from ims.storage.manifest import MANIFEST_NAME, write_manifest

MACROS: dict[str, Any] = {"write_manifest": write_manifest}
"""What the workflow has to give its templates."""


def publish_image(job: BaseOperator, package: BaseOperator, origin: dict[str, Any] | None = None) -> BaseOperator:
    """Add the tasks that make an image of what `package` packed, and the one that closes what `job` opened.

    `origin` are fields of the record, on what the image was made of. Returns the last task.
    """
    image_id = XComArg(job, "image_id")
    upload = StepOperator.partial(
        task_id="upload_artifacts",
        inputs={
            "workspace": XComArg(job, "workspace"),
            "image_id": image_id,
            "image_name": XComArg(job, "image_name"),
            "job_id": XComArg(job, "job_id"),
        },
    ).expand(each=package.output)
    manifest = S3CreateObjectOperator(
        task_id="write_manifest",
        aws_conn_id=S3_CONNECTION,
        s3_bucket=settings().images_bucket,
        s3_key=f"{image_id}/{MANIFEST_NAME}",
        data="{{ write_manifest(ti.xcom_pull('upload_artifacts') | sum(start=[])) }}",
        replace=True,
    )
    record = SaveImageRecordOperator(
        task_id="save_image_record",
        image_id=image_id,
        name=XComArg(job, "image_name"),
        arch=XComArg(job, "arch"),
        origin=origin,
    )
    close = CloseWorkspaceOperator(task_id="close_workspace", image_id=image_id)
    close.as_teardown(on_failure_fail_dagrun=True)
    package >> upload >> manifest >> record >> close
    return close
