"""A step of `ims.steps` as a task, where the settings say that steps run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

from ims.operators.errors import task_errors
from ims.runtime.local import LocalRuntime
from ims.settings import settings
from ims.steps.step import load_step


class StepTask(BaseOperator):
    """What a step is told: `inputs`, and `each` under that name where the task is mapped.

    Where `only_if` has values, none of which is true, the task is skipped. `memory_gib` is the limit of a pod.
    """

    template_fields: Sequence[str] = ("inputs", "each", "only_if", "memory_gib")

    def __init__(
        self,
        *,
        inputs: dict[str, Any],
        each: Any = None,
        only_if: Sequence[Any] = (),
        memory_gib: Any = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.memory_gib = memory_gib
        self.inputs = inputs
        self.each = each
        self.only_if = only_if

    @property
    def data(self) -> dict[str, Any]:
        """The step's input."""
        return self.inputs if self.each is None else {**self.inputs, "each": self.each}

    def skip_unless_wanted(self) -> None:
        """Skip the task if the job does not ask for it."""
        if self.only_if and not any(self.only_if):
            raise AirflowSkipException("the job does not ask for it")


def architecture(context: Context) -> str | None:
    """The architecture of what the job works on, as `open_workspace` found it; None for plans, which any node makes."""
    found: str | None = context["ti"].xcom_pull(task_ids="open_workspace", key="arch")
    return found


class LocalStepOperator(StepTask):
    """Runs the step named like the task as a process of this machine, whose worker waits for it, `long` or not."""

    def __init__(self, *, long: bool = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._runtime = LocalRuntime()

    def execute(self, context: Context) -> Any:
        """Run the step; its result is the task's."""
        self.skip_unless_wanted()
        label = f"{self.task_id}-{context['ti'].map_index}"
        with task_errors(context):
            return self._runtime.run(load_step(self.task_id), self.data, label, self.log.info)

    def on_kill(self) -> None:
        """End the step with the task."""
        self._runtime.kill()


if TYPE_CHECKING or settings().runtime == "local":
    StepOperator = LocalStepOperator
else:
    # It takes seconds to import: only where it is used.
    from ims.operators.pod import PodStepOperator as StepOperator  # noqa: F401
