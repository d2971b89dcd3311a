"""Create an image: from a kiwi-ng recipe in S3 to a registered image that nodes boot."""

from airflow.sdk import DAG, TriggerRule, XComArg

from ims.operators.base import task_defaults
from ims.operators.conditions import any_of
from ims.operators.dag_arguments import limit_tasks, params_of, run_limit
from ims.operators.job import OpenWorkspaceOperator
from ims.operators.publish import publish_image
from ims.operators.shell import StartShellOperator, StopShellOperator
from ims.operators.step import StepOperator
from ims.params import boot_files
from ims.sensors.completion import CompletionSensor
from ims.sensors.repositories import RepositoriesSensor
from ims.settings import settings
from ims.workflows import CREATE_IMAGE

with DAG(
    CREATE_IMAGE.dag_id,
    description="Create an image from a kiwi-ng recipe",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=settings().max_create_jobs,
    params=params_of(CREATE_IMAGE.params),
    dagrun_timeout=run_limit(CREATE_IMAGE),
    default_args=task_defaults(),
    tags=["images"],
) as dag:
    job = OpenWorkspaceOperator(
        task_id="open_workspace",
        kind="recipes",
        artifact_id=dag.param("artifact_id"),
        size_gib=dag.param("build_env_size"),
    )
    workspace = {"workspace": XComArg(job, "workspace")}
    arch = XComArg(job, "arch")
    names = {name: XComArg(job, name) for name in boot_files.FIELDS}

    recipe = StepOperator(
        task_id="fetch_recipe",
        multiple_outputs=True,
        arch=arch,
        inputs={
            **workspace,
            "recipe_id": dag.param("artifact_id"),
            "path": XComArg(job, "path"),
            "profiles": XComArg(job, "profiles"),
        },
    )
    repositories = RepositoriesSensor(
        task_id="wait_for_repositories",
        repositories=XComArg(recipe, "repositories"),
        timeout=dag.param("repository_timeout"),
    )
    manager = {"package_manager": XComArg(recipe, "package_manager")}
    ca_package = StepOperator(task_id="build_ca_package", arch=arch, inputs={**workspace, **manager})
    packages = StepOperator(
        task_id="resolve_packages", arch=arch, inputs={**workspace, "arch": arch, "boot_files": names}
    )
    build = StepOperator(
        task_id="build_image",
        long=True,
        retries=1,
        arch=arch,
        memory_gib=dag.param("job_mem_size"),
        inputs={
            **workspace,
            **manager,
            "lineage": XComArg(job, "lineage"),
            "ca_package": ca_package.output,
            "packages": packages.output,
            "force": dag.param("force"),
        },
    )
    package = StepOperator(
        task_id="package_artifacts", long=True, arch=arch, inputs={**workspace, "arch": arch, **names}
    )
    close = publish_image(job, package, {"source_recipe_id": dag.param("artifact_id")})

    shell = StartShellOperator(
        task_id="start_debug_shell",
        run_if=any_of(dag.param("enable_debug")),
        trigger_rule=TriggerRule.ONE_FAILED,
        **workspace,
        arch=arch,
        public_key_id=dag.param("public_key_id"),
        name="debug",
        jail=False,
        lease=dag.param("lease"),
    )
    wait = CompletionSensor(task_id="wait_for_completion")
    stop = StopShellOperator(task_id="stop_shell").as_teardown(setups=shell)

    job >> recipe >> repositories >> [ca_package, packages] >> build >> package
    [build, package] >> shell >> wait >> stop >> close

    limit_tasks(dag, CREATE_IMAGE)
