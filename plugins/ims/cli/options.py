"""What the commands of several groups have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import typer

from ims.cli.output import FormatOption
from ims.errors import InputError

Truth = Literal["True", "False"]
"""Booleans take a value, as `cray` has it."""
Arch = Literal["x86_64", "aarch64"]
Identity = Annotated[str, typer.Argument(metavar="ID", help="Id, or a name that only one has.", show_default=False)]
JobId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the job, or its image's name if only one has it.", show_default=False)
]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")]
OnlyName = Annotated[str | None, typer.Option("--name", help="Only those of this name.")]
NameOption = Annotated[str, typer.Option(help="Its name.", show_default=False)]
NewNameOption = Annotated[str | None, typer.Option("--name", help="A new name.")]
ArchOption = Annotated[Arch | None, typer.Option(help="The processors it is for.")]
DkmsOption = Annotated[
    Truth | None, typer.Option(help="Whether kernel modules are built by DKMS.", case_sensitive=False)
]
LinkType = Annotated[str | None, typer.Option(help="Always s3.")]
LinkPath = Annotated[str | None, typer.Option(help="The object, as s3://bucket/key.")]
LinkEtag = Annotated[str | None, typer.Option(help="The object's etag.")]
TemplateKeys = Annotated[
    str | None, typer.Option("--template-dictionary-key", help="Names of template variables, with commas between.")
]
TemplateValues = Annotated[
    str | None, typer.Option("--template-dictionary-value", help="Their values, with commas between.")
]


def group(name: str, text: str) -> typer.Typer:
    """A group of commands; alone, it shows its help."""
    app = typer.Typer(name=name, no_args_is_help=True, pretty_exceptions_enable=False)

    @app.callback(help=text)
    def common(_format: FormatOption = None) -> None: ...

    return app


def given(**fields: Any) -> dict[str, Any]:
    """The fields that the user gave."""
    return {name: value for name, value in fields.items() if value is not None}


def truth(value: Truth | None) -> bool | None:
    """What a boolean option says."""
    return None if value is None else value == "True"


def link(kind: str | None, path: str | None, etag: str | None) -> dict[str, str] | None:
    """The link that the options name. Raises InputError: it has no path."""
    if path is None and (kind or etag):
        raise InputError("a link needs its path", "Give --link-path s3://bucket/key")
    return given(path=path, type=kind or "s3", etag=etag) if path is not None else None


def pairs(keys: str | None, values: str | None) -> list[dict[str, str]] | None:
    """The list of `key` and `value` that two options spell, with commas between.

    Raises InputError: one has more of them than the other.
    """
    if keys is None and values is None:
        return None
    left = keys.split(",") if keys else []
    right = (values or "").split(",") if values or left else []
    if len(left) != len(right):
        raise InputError(
            f"there are {len(left)} keys for {len(right)} values", "Give as many of the one as of the other"
        )
    return [{"key": key, "value": value} for key, value in zip(left, right, strict=True)]


def variables(assignments: Iterable[str]) -> list[dict[str, str]]:
    """The list of `key` and `value` that `KEY=VALUE`s spell. Raises InputError: one has no `=`."""
    found = []
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(f"{text!r} is not a variable", "Write it as KEY=VALUE")
        found.append({"key": key, "value": value})
    return found
