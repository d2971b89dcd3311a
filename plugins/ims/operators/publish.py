"""The tasks at the end of every job: upload the artifacts, write the manifest, register the image, clean up."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, XComArg

from ims.operators.job import CloseWorkspaceOperator, SaveImageRecordOperator, WriteManifestOperator
from ims.operators.step import map_step


def publish_image(job: BaseOperator, package: BaseOperator, origin: dict[str, Any]) -> BaseOperator:
    """Add the tasks that publish what `package` packed, and the task that closes the workspace that `job` opened.

    `origin` are more fields of the image record, such as `source_recipe_id` or `changes`. Returns the last task.
    """
    image_id, arch = XComArg(job, "image_id"), XComArg(job, "arch")
    upload = map_step(
        "upload_artifacts",
        each=package.output,
        arch=arch,
        inputs={
            "workspace": XComArg(job, "workspace"),
            "image_id": image_id,
            "image_name": XComArg(job, "image_name"),
            "job_id": XComArg(job, "job_id"),
        },
    )
    manifest = WriteManifestOperator(task_id="write_manifest", image_id=image_id, uploads=XComArg(upload))
    record = SaveImageRecordOperator(
        task_id="save_image_record",
        image_id=image_id,
        name=XComArg(job, "image_name"),
        arch=arch,
        manifest=manifest.output,
        uploads=XComArg(upload),
        origin=origin,
    )
    close = CloseWorkspaceOperator(task_id="close_workspace", image_id=image_id)
    close.as_teardown(on_failure_fail_dagrun=True)
    package >> upload >> manifest >> record >> close
    return close
