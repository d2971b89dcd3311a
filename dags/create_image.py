"""Create a New Image: from a kiwi-ng recipe in S3 to a registered image that nodes boot."""

from datetime import timedelta

from airflow.providers.amazon.aws.operators.s3 import S3CreateObjectOperator
from airflow.sdk import DAG, XComArg

from ims.connections import S3_CONNECTION
from ims.jobs import CreateJob
from ims.operators.job import CloseWorkspaceOperator, OpenWorkspaceOperator, SaveImageRecordOperator
from ims.operators.params import job_params
from ims.operators.step import StepOperator
from ims.sensors.repositories import RepositoriesSensor
from ims.settings import settings
from ims.storage.manifest import MANIFEST_NAME, write_manifest

with DAG(
    "create_image",
    description="Create an image from a kiwi-ng recipe",
    doc_md=__doc__,
    schedule=None,
    params=job_params(CreateJob),
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    user_defined_macros={"write_manifest": write_manifest},
    tags=["images"],
) as dag:
    job = OpenWorkspaceOperator(
        task_id="open_workspace",
        kind="recipes",
        artifact_id=dag.param("artifact_id"),
        size_gib=dag.param("build_env_size"),
    )
    workspace = {"workspace": XComArg(job, "workspace")}

    recipe = StepOperator(
        task_id="fetch_recipe",
        multiple_outputs=True,
        inputs={**workspace, "path": XComArg(job, "path"), "variables": XComArg(job, "variables")},
    )
    repositories = RepositoriesSensor(
        task_id="wait_for_repositories",
        repositories=XComArg(recipe, "repositories"),
        timeout=dag.param("repository_timeout"),
    )
    manager = {"package_manager": XComArg(recipe, "package_manager")}
    ca_package = StepOperator(task_id="build_ca_package", inputs={**workspace, **manager})
    build = StepOperator(
        task_id="build_image",
        retries=1,
        inputs={
            **workspace,
            **manager,
            "recipe_id": dag.param("artifact_id"),
            "ca_package": ca_package.output,
        },
    )
    package = StepOperator(
        task_id="package_artifacts",
        inputs={
            **workspace,
            "arch": XComArg(job, "arch"),
            "kernel_file_name": dag.param("kernel_file_name"),
            "initrd_file_name": dag.param("initrd_file_name"),
            "kernel_parameters_file_name": dag.param("kernel_parameters_file_name"),
        },
    )
    upload = StepOperator.partial(
        task_id="upload_artifacts",
        inputs={
            **workspace,
            "image_id": XComArg(job, "image_id"),
            "image_name": XComArg(job, "image_name"),
            "job_id": XComArg(job, "job_id"),
        },
    ).expand(each=package.output)
    manifest = S3CreateObjectOperator(
        task_id="write_manifest",
        aws_conn_id=S3_CONNECTION,
        s3_bucket=settings().images_bucket,
        s3_key=f"{XComArg(job, 'image_id')}/{MANIFEST_NAME}",
        data="{{ write_manifest(ti.xcom_pull('upload_artifacts')) }}",
        replace=True,
    )
    record = SaveImageRecordOperator(
        task_id="save_image_record",
        image_id=XComArg(job, "image_id"),
        name=XComArg(job, "image_name"),
        arch=XComArg(job, "arch"),
    )
    close = CloseWorkspaceOperator(task_id="close_workspace", image_id=XComArg(job, "image_id")).as_teardown(
        on_failure_fail_dagrun=True
    )

    job >> recipe >> repositories >> ca_package >> build >> package >> upload >> manifest >> record >> close
