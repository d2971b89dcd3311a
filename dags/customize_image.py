"""Customize an Image: an administrator changes a copy of an image over SSH; the result is a new image."""

from datetime import timedelta

from airflow.sdk import DAG, TriggerRule, XComArg

from ims.operators.job import OpenWorkspaceOperator
from ims.operators.params import job_params
from ims.operators.publish import MACROS, publish_image
from ims.operators.shell import StartShellOperator, StopShellOperator
from ims.operators.step import StepOperator
from ims.sensors.completion import CompletionSensor
from ims.settings import settings
from ims.workflows import CUSTOMIZE_IMAGE

with DAG(
    CUSTOMIZE_IMAGE.dag_id,
    description="Customize an image over SSH",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=settings().max_customize_jobs,
    params=job_params(CUSTOMIZE_IMAGE.params),
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    user_defined_macros=MACROS,
    tags=["images"],
) as dag:
    job = OpenWorkspaceOperator(
        task_id="open_workspace",
        kind="images",
        artifact_id=dag.param("artifact_id"),
        size_gib=dag.param("build_env_size"),
    )
    workspace = {"workspace": XComArg(job, "workspace")}

    scripted = [dag.param("script"), dag.param("playbook")]

    image = StepOperator(
        task_id="fetch_image",
        inputs={**workspace, "path": XComArg(job, "path"), "playbook": dag.param("playbook")},
    )
    rootfs = {"rootfs": image.output}
    script = StepOperator(
        task_id="run_script",
        long=True,
        retries=0,
        only_if=scripted,
        inputs={**workspace, **rootfs, "script": dag.param("script"), "seconds": dag.param("lease")},
    )
    shell = StartShellOperator(
        task_id="start_shell",
        **workspace,
        **rootfs,
        public_key_id=dag.param("public_key_id"),
        name=dag.param("shell_name"),
        jail=dag.param("jail"),
        lease=dag.param("lease"),
        instead=scripted,
    )
    wait = CompletionSensor(task_id="wait_for_completion")
    stop = StopShellOperator(task_id="stop_shell").as_teardown(setups=shell)
    changes = StepOperator(
        task_id="list_changes",
        trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
        inputs={**workspace, **rootfs},
    )
    package = StepOperator(
        task_id="package_artifacts",
        long=True,
        inputs={
            **workspace,
            **rootfs,
            "arch": XComArg(job, "arch"),
            "kernel_file_name": dag.param("kernel_file_name"),
            "initrd_file_name": dag.param("initrd_file_name"),
            "kernel_parameters_file_name": dag.param("kernel_parameters_file_name"),
        },
    )
    publish_image(job, package, {"source_image_id": dag.param("artifact_id"), "changes": changes.output})

    job >> image >> [script, shell]
    shell >> wait >> stop
    [script, wait, stop] >> changes >> package
