"""Options that always come together, as dataclasses."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from ims.cli.options import given
from ims.errors import InputError

Result = TypeVar("Result")


def with_groups(function: Callable[..., Result]) -> Callable[..., Result]:
    """Let a command take dataclasses: each field of a dataclass becomes an option of the command."""
    parameters = inspect.signature(function, eval_str=True).parameters
    groups = {name: parameter.annotation for name, parameter in parameters.items() if _is_group(parameter)}

    def command(**values: Any) -> Result:
        for name, kind in groups.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
        return function(**values)

    expanded = [option for parameter in parameters.values() for option in _options(parameter)]
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__annotations__ = {option.name: option.annotation for option in expanded}
    command.__signature__ = inspect.Signature(expanded)  # type: ignore[attr-defined]
    return command


def _is_group(parameter: inspect.Parameter) -> bool:
    return is_dataclass(parameter.annotation)


def _options(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """Return the options that stand for a parameter of a command."""
    if not _is_group(parameter):
        return [parameter.replace(kind=parameter.KEYWORD_ONLY)]
    hints = get_type_hints(parameter.annotation, include_extras=True)
    return [
        inspect.Parameter(field.name, parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in fields(parameter.annotation)
    ]


@dataclass(frozen=True)
class LinkOptions:
    """The object in S3 that a record refers to."""

    link_type: Annotated[str | None, typer.Option(help="Type of the link. Only s3 is supported.")] = None
    link_path: Annotated[str | None, typer.Option(help="Address of the object, as s3://bucket/key.")] = None
    link_etag: Annotated[str | None, typer.Option(help="ETag of the object.")] = None

    def link(self) -> dict[str, str] | None:
        """Return the link in the form of the API. Raises InputError if it has a type or an ETag but no path."""
        if self.link_path is not None:
            return given(path=self.link_path, type=self.link_type or "s3", etag=self.link_etag)
        if self.link_type or self.link_etag:
            raise InputError("a link needs a path", "Give --link-path s3://bucket/key")
        return None
