"""Plan images: tell whether recipes must be built, and why. Builds nothing."""

from airflow.sdk import DAG, XComArg

from ims.operators.base import task_defaults
from ims.operators.dag_arguments import limit_tasks, params_of, run_limit
from ims.operators.job import RemoveWorkspaceOperator
from ims.operators.plan import ChooseRecipesOperator
from ims.operators.step import StepOperator
from ims.workflows import PLAN_IMAGES

with DAG(
    PLAN_IMAGES.dag_id,
    description="Tell which recipes must be built",
    doc_md=__doc__,
    schedule=None,
    params=params_of(PLAN_IMAGES.params),
    dagrun_timeout=run_limit(PLAN_IMAGES),
    default_args=task_defaults(retries=1, retry_delay=2),
    tags=["images"],
) as dag:
    chosen = ChooseRecipesOperator(task_id="choose_recipes", recipes=dag.param("recipes"))
    plan = StepOperator(
        task_id="plan_images",
        inputs={
            "workspace": XComArg(chosen, "workspace"),
            "recipes": XComArg(chosen, "recipes"),
        },
    )
    close = RemoveWorkspaceOperator(task_id="close_workspace").as_teardown(setups=chosen)

    chosen >> plan >> close

    limit_tasks(dag, PLAN_IMAGES)
