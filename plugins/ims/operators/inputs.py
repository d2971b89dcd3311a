"""The check of a task's inputs when its DAG is parsed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from ims.errors import InputError
from ims.steps.step import load_step


def check_inputs(name: str, inputs: Mapping[str, Any]) -> None:
    """Compare the inputs of a task with the input model of the step `name`.

    Templates and results of other tasks are not known yet: the step checks them when it runs.
    Raises InputError: a field is unknown or missing, or a value has the wrong type.
    """
    fields = load_step(name).input.model_fields
    wrong = [f"{field} is unknown" for field in inputs if field not in fields]
    wrong += [f"{field} is missing" for field, info in fields.items() if info.is_required() and field not in inputs]
    wrong += [
        f"{field}: {reason}"
        for field, value in inputs.items()
        if field in fields and not is_template(value) and (reason := _fault(fields[field], value))
    ]
    if wrong:
        raise InputError(
            f"the inputs of the step {name} are wrong: {'; '.join(wrong)}", f"Compare them with ims.steps.{name}.Input"
        )


def is_template(value: Any) -> bool:
    """Whether Airflow replaces a value, or a part of it, when the task starts."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, Mapping):
        return any(is_template(item) for item in value.values())
    if isinstance(value, list | tuple | set):
        return any(is_template(item) for item in value)
    return not isinstance(value, os.PathLike) and hasattr(value, "resolve")


def _fault(info: FieldInfo, value: Any) -> str:
    """What is wrong with a value; empty if nothing is."""
    kind: Any = Annotated[info.annotation, info]
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        return str(error.errors(include_url=False)[0]["msg"])
    return ""
