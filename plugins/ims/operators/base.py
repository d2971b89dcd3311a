"""What the tasks that run a step have in common, on every runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException


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
