"""Customize an image: change a copy of an image in a shell, or with a script; the result is a new image."""

from airflow.sdk import DAG, TriggerRule, XComArg

from ims.operators.base import task_defaults
from ims.operators.conditions import any_of, none_of
from ims.operators.dag_arguments import limit_tasks, params_of, run_limit
from ims.operators.job import OpenWorkspaceOperator
from ims.operators.publish import publish_image
from ims.operators.shell import StartShellOperator, StopShellOperator
from ims.operators.step import StepOperator
from ims.params import boot_files
from ims.sensors.completion import CompletionSensor
from ims.settings import settings
from ims.workflows import CUSTOMIZE_IMAGE

with DAG(
    CUSTOMIZE_IMAGE.dag_id,
    description="Customize an image over SSH",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=settings().max_customize_jobs,
    params=params_of(CUSTOMIZE_IMAGE.params),
    dagrun_timeout=run_limit(CUSTOMIZE_IMAGE),
    default_args=task_defaults(),
    tags=["images"],
) as dag:
    job = OpenWorkspaceOperator(
        task_id="open_workspace",
        kind="images",
        artifact_id=dag.param("artifact_id"),
        size_gib=dag.param("build_env_size"),
    )
    workspace = {"workspace": XComArg(job, "workspace")}
    arch = XComArg(job, "arch")
    names = {name: dag.param(name) for name in boot_files.FIELDS}
    scripts = (dag.param("script"), dag.param("playbook"))

    image = StepOperator(
        task_id="fetch_image",
        arch=arch,
        inputs={
            **workspace,
            "path": XComArg(job, "path"),
            "etag": XComArg(job, "etag"),
            "playbook": dag.param("playbook"),
            "playbook_sha256": dag.param("playbook_sha256"),
        },
    )
    rootfs = {"rootfs": image.output}
    script = StepOperator(
        task_id="run_script",
        run_if=any_of(*scripts),
        long=True,
        # A script that fails is a permanent error, which ends the task. Another try follows only if the first was lost:
        # Airflow fails a deferred task if its pod ends before the scheduler has noticed the deferral
        # (https://github.com/apache/airflow/issues/67287). Every try starts from the original image.
        retries=1,
        arch=arch,
        lease=dag.param("lease"),
        inputs={
            **workspace,
            **rootfs,
            "script": dag.param("script"),
            "seconds": dag.param("lease"),
            "network": dag.param("network"),
            "build_env_size": dag.param("build_env_size"),
            "pack_in_full": dag.param("pack_in_full"),
            **names,
        },
    )
    shell = StartShellOperator(
        task_id="start_shell",
        run_if=none_of(*scripts),
        **workspace,
        **rootfs,
        arch=arch,
        public_key_id=dag.param("public_key_id"),
        name=dag.param("shell_name"),
        jail=dag.param("jail"),
        network=dag.param("network"),
        lease=dag.param("lease"),
        kernel=names["kernel_file_name"],
        initrd=names["initrd_file_name"],
    )
    wait = CompletionSensor(task_id="wait_for_completion")
    stop = StopShellOperator(task_id="stop_shell").as_teardown(setups=shell)
    changes = StepOperator(
        task_id="list_changes",
        trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
        arch=arch,
        inputs={**workspace, **rootfs},
    )
    package = StepOperator(
        task_id="package_artifacts",
        long=True,
        arch=arch,
        inputs={**workspace, **rootfs, "arch": arch, "pack_in_full": dag.param("pack_in_full"), **names},
    )
    publish_image(job, package, {"source_image_id": dag.param("artifact_id"), "changes": changes.output})

    job >> image >> [script, shell]
    shell >> wait >> stop
    [script, wait, stop] >> changes >> package

    limit_tasks(dag, CUSTOMIZE_IMAGE)
