"""Describes what the installation adds to customized images, which a night compares with what it was."""

from __future__ import annotations

from ims.builder.customization import environment
from ims.replays.customization import Environment
from ims.steps.step import Step, StepInput


def run(_step: StepInput) -> Environment:
    """Returns the description."""
    return environment()


STEP = Step("describe_builder", StepInput, run, begins=True)
