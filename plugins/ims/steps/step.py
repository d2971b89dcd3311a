"""What a step is: a name, its input, the function that does it, and what it needs of its surroundings."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

InputType = TypeVar("InputType", bound="StepInput")


class StepInput(BaseModel):
    """What every step is told. `workspace` is the folder of its job, shared by all its steps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workspace: Path


@dataclass(frozen=True)
class Step(Generic[InputType]):
    """A step's declaration, kept beside its code.

    `run` returns what JSON can carry. `s3`: needs the credentials of S3. `privileged`: mounts, changes root or owners.
    """

    name: str
    input: type[InputType]
    run: Callable[[InputType], Any]
    s3: bool = False
    privileged: bool = False


def load_step(name: str) -> Step[Any]:
    """The step that the module `ims.steps.<name>` declares as STEP."""
    step: Step[Any] = importlib.import_module(f"ims.steps.{name}").STEP
    return step
