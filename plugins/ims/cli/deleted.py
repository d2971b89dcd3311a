"""`ims deleted …`: records that were deleted and can come back."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import typer

from ims.cli.login import connect
from ims.cli.options import Identity, group
from ims.cli.output import FormatOption
from ims.cli.resources import IMAGES, PUBLIC_KEYS, RECIPES, Resource, add_verbs

app = group("deleted", "What was deleted: look at it, undelete it, delete it for good.")


def _group(kept: Resource) -> typer.Typer:
    resource = replace(
        kept, path=f"deleted/{kept.path}", noun=f"deleted {kept.noun}", columns=(*kept.columns, "deleted")
    )
    commands = group(kept.path, f"Deleted {kept.noun}s.")
    add_verbs(commands, resource)

    @commands.command(help=f"Undelete one {kept.noun}.")
    def update(
        identity: Identity,
        operation: Annotated[Literal["undelete"], typer.Option(help="What to do with it.", show_default=False)],
        _format: FormatOption = None,
    ) -> None:
        client = connect()
        client.update(f"{resource.path}/{resource.identify(client, identity)}", operation=operation)

    return commands


for kind in (IMAGES, RECIPES, PUBLIC_KEYS):
    app.add_typer(_group(kind))
