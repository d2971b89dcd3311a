"""Nightly images: build the recipes that are marked for nightly builds, unless their image would be identical.

Then repeat the customizations of images that are marked, parents first, if something changed.
"""

from airflow.sdk import DAG, TriggerRule, XComArg

from ims.operators.base import task_defaults
from ims.operators.conditions import any_of
from ims.operators.dag_arguments import limit_tasks, night_schedule, params_of, run_limit
from ims.operators.job import RemoveWorkspaceOperator
from ims.operators.messages import NotifyOperator
from ims.operators.nights import BuildRecipeOperator, ChooseBuildsOperator, SummarizeOperator
from ims.operators.plan import ChooseRecipesOperator
from ims.operators.replays import ChooseImagesOperator, ReplayImagesOperator
from ims.operators.step import StepOperator
from ims.workflows import NIGHTLY_IMAGES

with DAG(
    NIGHTLY_IMAGES.dag_id,
    description="Build the recipes that are marked for nightly builds, if something changed",
    doc_md=__doc__,
    **night_schedule(),
    catchup=False,
    max_active_runs=1,
    params=params_of(NIGHTLY_IMAGES.params),
    dagrun_timeout=run_limit(NIGHTLY_IMAGES),
    default_args=task_defaults(),
    tags=["images"],
) as dag:
    chosen = ChooseRecipesOperator(task_id="choose_recipes", recipes=dag.param("recipes"))
    recipes = XComArg(chosen, "recipes")
    plan = StepOperator(
        task_id="plan_images",
        inputs={
            "workspace": XComArg(chosen, "workspace"),
            "recipes": recipes,
            "force": dag.param("force"),
        },
    )
    images = ChooseImagesOperator(task_id="choose_images", recipes=dag.param("recipes"))
    builder = StepOperator(
        task_id="describe_builder",
        run_if=any_of(images.output),
        inputs={"workspace": XComArg(chosen, "workspace")},
    )
    close = RemoveWorkspaceOperator(task_id="close_workspace").as_teardown()
    builds = ChooseBuildsOperator(
        task_id="choose_builds",
        trigger_rule=TriggerRule.ALL_DONE,
        recipes=recipes,
        plans=plan.output,
        force=dag.param("force"),
    )
    # Airflow's database takes 250 characters.
    label = "{{ task.build['name'][:200] }}"
    build = BuildRecipeOperator.partial(task_id="build_images", map_index_template=label).expand(build=builds.output)
    replay = ReplayImagesOperator(
        task_id="replay_images",
        run_if=any_of(images.output),
        trigger_rule=TriggerRule.ALL_DONE,
        images=images.output,
        environment=builder.output,
        force=dag.param("force"),
    )
    summary = SummarizeOperator(
        task_id="summarize", trigger_rule=TriggerRule.ALL_DONE, builds=builds.output, images=images.output
    )
    notify = NotifyOperator(task_id="notify", summary=summary.output).as_teardown()

    chosen >> plan >> [close, builds]
    [chosen, images] >> builder >> close
    builds >> build >> replay >> summary >> notify

    limit_tasks(dag, NIGHTLY_IMAGES)
