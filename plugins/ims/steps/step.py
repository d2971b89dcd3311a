"""The declaration of a step: its name, its input, its function, and the privileges that it needs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ims.errors import InputError
from ims.workspace import Workspace

if TYPE_CHECKING:
    from ims.storage.objects import ObjectStore
    from ims.storage.sessions import Grant

InputType = TypeVar("InputType", bound="StepInput")


def _to_workspace(value: Any) -> Any:
    return Workspace(Path(value)) if isinstance(value, str | Path) else value


class StepInput(BaseModel):
    """The input that every step has. `workspace` is the folder that all steps of the job share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workspace: Annotated[Workspace, BeforeValidator(_to_workspace)]


@dataclass(frozen=True)
class Step(Generic[InputType]):
    """Declares a step.

    `run` returns a model, a list of models, a string or None. `s3` returns what a step may do in S3; it runs before the
    step, with the rights of the service. Without it, the step gets no credentials. A `privileged` step mounts file
    systems, changes its root or the owners of files. A step that `renders` templates gets their values in the field
    `templates` of its input when it starts, see `ims.recipes.secrets.TemplateValues`. Steps that are `parallel` may run
    at the same time in one workspace: they run no program there that its job brought. No other step may. A step that
    `begins` may be the first one that uses a workspace.
    """

    name: str
    input: type[InputType]
    run: Callable[[InputType], Any]
    s3: Callable[[InputType, ObjectStore], Sequence[Grant]] | None = None
    privileged: bool = False
    renders: bool = False
    parallel: bool = False
    begins: bool = False

    def read_input(self, data: bytes | str) -> InputType:
        """Reads the input from JSON. Raises InputError if it is invalid."""
        try:
            return self.input.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InputError(f"the input of {self.name} is invalid: {where}: {first['msg']}") from None


def load_step(name: str) -> Step[Any]:
    """The step that the module `ims.steps.<name>` declares as STEP. Raises InputError if there is none."""
    spec = find_spec(f"ims.steps.{name}") if name.isidentifier() else None
    step: Step[Any] | None = getattr(importlib.import_module(spec.name), "STEP", None) if spec is not None else None
    if step is None:
        raise InputError(f"there is no step {name!r}")
    return step
