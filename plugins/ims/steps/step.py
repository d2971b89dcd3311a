"""What a step is: a name, its input, the function that does it, and what it needs of its surroundings."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

from ims.errors import InputError
from ims.workspace import Workspace

InputType = TypeVar("InputType", bound="StepInput")


def _to_workspace(value: Any) -> Any:
    return Workspace(Path(value)) if isinstance(value, str | Path) else value


class StepInput(BaseModel):
    """The input that every step has. `workspace` is the folder that all steps of the job share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workspace: Annotated[Workspace, BeforeValidator(_to_workspace)]


@dataclass(frozen=True)
class Step(Generic[InputType]):
    """A step's declaration, kept beside its code.

    `run` returns a model, or another value that JSON can carry. `s3`: the step needs the credentials of S3.
    `privileged`: it mounts, or changes the root or owners.
    """

    name: str
    input: type[InputType]
    run: Callable[[InputType], Any]
    s3: bool = False
    privileged: bool = False


def load_step(name: str) -> Step[Any]:
    """The step that the module `ims.steps.<name>` declares as STEP. Raises InputError: there is none."""
    spec = find_spec(f"ims.steps.{name}") if name.isidentifier() else None
    step: Step[Any] | None = getattr(importlib.import_module(spec.name), "STEP", None) if spec is not None else None
    if step is None:
        raise InputError(f"there is no step {name!r}")
    return step
