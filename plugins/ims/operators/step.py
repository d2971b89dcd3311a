"""The operator that runs a step of `ims.steps`, in the runtime that the settings choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ims.runtime.choice import step_operator

if TYPE_CHECKING:
    from ims.operators.local import LocalStepOperator as StepOperator
else:
    StepOperator = step_operator()

__all__ = ["StepOperator"]
