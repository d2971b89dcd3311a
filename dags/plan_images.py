"""Plan Images: whether recipes have to be built, and why. Nothing is built."""

from datetime import timedelta

from airflow.sdk import DAG, XComArg

from ims.operators.params import job_params
from ims.operators.plan import ChooseRecipesOperator, RemoveWorkspaceOperator
from ims.operators.step import StepOperator
from ims.params import DEFAULT_BOOT_FILES
from ims.workflows import PLAN_IMAGES

with DAG(
    PLAN_IMAGES.dag_id,
    description="Tell which recipes have to be built",
    doc_md=__doc__,
    schedule=None,
    params=job_params(PLAN_IMAGES.params),
    default_args={"retries": 1, "retry_delay": timedelta(seconds=2)},
    tags=["images"],
) as dag:
    chosen = ChooseRecipesOperator(task_id="choose_recipes", recipes=dag.param("recipes"))
    plan = StepOperator(
        task_id="plan_images",
        inputs={
            "workspace": XComArg(chosen, "workspace"),
            "recipes": XComArg(chosen, "recipes"),
            "boot_files": DEFAULT_BOOT_FILES,
        },
    )
    close = RemoveWorkspaceOperator(task_id="close_workspace").as_teardown(setups=chosen)

    chosen >> plan >> close
