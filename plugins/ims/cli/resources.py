"""The verbs that all records have: list, describe, delete, deleteall; and names in place of ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from ims.cli.login import connect
from ims.cli.options import Identity
from ims.cli.output import FormatOption, show_list, show_record
from ims.errors import InputError, MissingError

if TYPE_CHECKING:
    from ims.client import ImsClient

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class Resource:
    """A kind of record: its path in the API, what one is called, what a list shows of it."""

    path: str
    noun: str
    columns: Sequence[str]

    @property
    def command(self) -> str:
        """The words of the CLI for it."""
        return "ims " + self.path.replace("/", " ")

    def identify(self, client: ImsClient, text: str) -> str:
        """The id of the record that a user means by an id or a name.

        Raises MissingError: there is none of that name; InputError: there are several.
        """
        if _ID.fullmatch(text):
            return text.lower()
        ids = [record["id"] for record in client.get(self.path, name=text) if record["name"] == text]
        if not ids:
            raise MissingError(f"there is no {self.noun} with the id or name {text}", f"See {self.command} list")
        if len(ids) > 1:
            raise InputError(f"{len(ids)} {self.noun}s have the name {text}", f"Give the id: {', '.join(ids)}")
        return str(ids[0])


RECIPES = Resource("recipes", "recipe", ("id", "name", "linux_distribution", "arch", "created"))
IMAGES = Resource("images", "image", ("id", "name", "arch", "created"))
PUBLIC_KEYS = Resource("public-keys", "public key", ("id", "name", "created"))


def add_verbs(app: typer.Typer, resource: Resource) -> None:
    """Give a group the verbs that all records have."""

    @app.command("list", help=f"List all {resource.noun}s.")
    def list_all(_format: FormatOption = None) -> None:
        show_list(connect().get(resource.path), resource.columns)

    @app.command("describe", help=f"Show one {resource.noun}.")
    def describe(identity: Identity, _format: FormatOption = None) -> None:
        client = connect()
        show_record(client.get(f"{resource.path}/{resource.identify(client, identity)}"))

    @app.command("delete", help=f"Delete one {resource.noun}.")
    def delete(identity: Identity, _format: FormatOption = None) -> None:
        client = connect()
        client.delete(f"{resource.path}/{resource.identify(client, identity)}")

    @app.command("deleteall", help=f"Delete all {resource.noun}s, without asking.")
    def delete_all(_format: FormatOption = None) -> None:
        connect().delete(resource.path)


def change(resource: Resource, identity: str, fields: dict[str, Any]) -> None:
    """Change a record and show it. Raises InputError: there is nothing to change."""
    if not fields:
        raise InputError("there is nothing to change", f"See {resource.command} update --help")
    client = connect()
    show_record(client.update(f"{resource.path}/{resource.identify(client, identity)}", **fields))
