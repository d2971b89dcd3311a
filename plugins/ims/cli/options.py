"""Options and arguments that several groups of commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import typer

from ims.cli.login import connect
from ims.cli.output import FormatOption
from ims.errors import ImsError, InputError

COMPLETION_SECONDS = 3
"""How long a user who presses TAB waits for the service."""
_MIN_PREFIX = 4


def complete_records(path: str) -> Callable[[str], list[str]]:
    """Return the completion of records at a path of the API."""

    def complete(incomplete: str) -> list[str]:
        return _matching(path, incomplete)

    return complete


def complete_group(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete a record of the kind that the group of commands manages."""
    _, *groups, _ = ctx.command_path.split()
    return _matching("/".join(groups), incomplete)


def complete_artifact(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete what a new job works on: an image if the type `customize` was given, else a recipe."""
    return _matching("images" if ctx.params.get("job_type") == "customize" else "recipes", incomplete)


def _matching(path: str, incomplete: str) -> list[str]:
    """Return names, and ids once the user types one, that begin with a text. Without the service, there are none."""
    try:
        client = connect()
        client.http.timeout = COMPLETION_SECONDS
        records = client.get(path)
    except (ImsError, OSError):
        return []
    names = {str(record.get("name") or record.get("image_root_archive_name") or "") for record in records}
    ids = [str(record["id"]) for record in records] if len(incomplete) >= _MIN_PREFIX else []
    return [text for text in [*sorted(names), *ids] if text.isprintable() and text.startswith(incomplete)]


Truth = Literal["True", "False"]
"""A boolean option that takes a value, as in `cray`."""
Arch = Literal["x86_64", "aarch64"]
Identity = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="Id, or its first four or more characters, or a name. A name means the newest record.",
        show_default=False,
        autocompletion=complete_group,
    ),
]
JobId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="Id of the job, or its first four or more characters, or the name of its image.",
        show_default=False,
        autocompletion=complete_group,
    ),
]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted, and delete nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Force = Annotated[bool, typer.Option("--force", help="Delete pinned images, too.")]
OnlyName = Annotated[str | None, typer.Option("--name", help="List only records of this name.")]
NameOption = Annotated[str, typer.Option(help="Name of the record.", show_default=False)]
NewNameOption = Annotated[str | None, typer.Option("--name", help="New name of the record.")]
ArchOption = Annotated[Arch | None, typer.Option(help="Processor architecture. A new record defaults to x86_64.")]
DkmsOption = Annotated[
    Truth | None, typer.Option(help="Whether DKMS builds kernel modules for the image.", case_sensitive=False)
]


def group(name: str, text: str) -> typer.Typer:
    """Return an empty group of commands. It shows its help if it is called without a command."""
    context = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(name=name, no_args_is_help=True, pretty_exceptions_enable=False, context_settings=context)

    @app.callback(help=text)
    def common(_format: FormatOption = None) -> None: ...

    return app


def given(**fields: Any) -> dict[str, Any]:
    """Return the fields that have a value, that is, the options that the user gave."""
    return {name: value for name, value in fields.items() if value is not None}


def truth(value: Truth | None) -> bool | None:
    """Convert the value of a boolean option."""
    return None if value is None else value == "True"


def comma_separated(keys: str | None, values: str | None) -> list[dict[str, str]] | None:
    """Return the template dictionary that a list of keys and a list of values make up, or None if neither is given.

    Raises InputError if the lists differ in length.
    """
    if keys is None and values is None:
        return None
    left = keys.split(",") if keys else []
    right = (values or "").split(",") if values or left else []
    if len(left) != len(right):
        raise InputError(f"{len(left)} keys do not match {len(right)} values", "Give one value for each key")
    return [{"key": key, "value": value} for key, value in zip(left, right, strict=True)]


def profile_names(text: str | None) -> list[str] | None:
    """Return the names in a list that is separated by commas, or None if none was given."""
    return None if text is None else [name for name in text.split(",") if name]


def assignments(texts: Iterable[str]) -> dict[str, str]:
    """Parse `KEY=VALUE` texts. Raises InputError if a text has no key or no `=`."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(f"{text!r} is not an assignment", "Write it as KEY=VALUE")
        found[key] = value
    return found


def dictionary(variables: dict[str, str]) -> list[dict[str, str]]:
    """Return template variables in the form of the API."""
    return [{"key": key, "value": value} for key, value in variables.items()]
