"""`ims deleted …`: deleted records, which can be undeleted or purged."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import typer

from ims.cli.login import connect
from ims.cli.options import Identity, group
from ims.cli.output import FormatOption
from ims.cli.resources import IMAGES, PUBLIC_KEYS, RECIPES, Resource, add_verbs

app = group("deleted", "Show, undelete or purge deleted records.")


def _group(active: Resource) -> typer.Typer:
    """Return the commands for the deleted records of one kind."""
    resource = replace(
        active, path=f"deleted/{active.path}", noun=f"deleted {active.noun}", columns=(*active.columns, "deleted")
    )
    commands = group(active.path, f"Manage deleted {active.noun}s.")
    add_verbs(commands, resource)

    @commands.command(help=f"Undelete one {active.noun}.")
    def update(
        identity: Identity,
        operation: Annotated[Literal["undelete"], typer.Option(help="The operation.", show_default=False)],
        _format: FormatOption = None,
    ) -> None:
        client = connect()
        client.update(f"{resource.path}/{resource.identify(client, identity)}", operation=operation)

    return commands


for kind in (IMAGES, RECIPES, PUBLIC_KEYS):
    app.add_typer(_group(kind))
