"""The operator that runs a step of `ims.steps`, in the runtime that the settings choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.mappedoperator import MappedOperator

from ims.operators.inputs import check_inputs
from ims.runtime.choice import step_operator

if TYPE_CHECKING:
    from ims.operators.local import LocalStepOperator as StepOperator
else:
    StepOperator = step_operator()

__all__ = ["StepOperator", "map_step"]


def map_step(task_id: str, *, each: Any, inputs: dict[str, Any], **arguments: Any) -> MappedOperator:
    """A step that runs once for each item of a list, in parallel. Raises InputError: the inputs are wrong."""
    check_inputs(task_id, {**inputs, "each": each})
    return StepOperator.partial(task_id=task_id, inputs=inputs, **arguments).expand(each=each)
