"""The verbs that all records have: list, describe, delete, deleteall; and names in place of ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from ims.cli.login import connect
from ims.cli.options import DryRun, Identity, OnlyName, given
from ims.cli.output import FormatOption, show_list, show_record
from ims.errors import InputError, MissingError

if TYPE_CHECKING:
    from ims.client import ImsClient

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_JOB_NAME = "image_root_archive_name"


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
        ids = self._named(client, text)
        if len(ids) > 1:
            raise InputError(f"{len(ids)} {self.noun}s have the name {text}", f"Give the id: {', '.join(ids)}")
        return ids[0]

    def newest(self, client: ImsClient, text: str) -> str:
        """As `identify`; of several of that name the newest."""
        return self._named(client, text)[-1]

    def _named(self, client: ImsClient, text: str) -> list[str]:
        if _ID.fullmatch(text):
            return [text.lower()]
        found = client.get(self.path, name=text)
        # A service that does not know the filter gives all.
        ids = [str(record["id"]) for record in found if text == record.get("name", record.get(_JOB_NAME))]
        if not ids:
            raise MissingError(f"there is no {self.noun} with the id or name {text}", f"See {self.command} list")
        return ids


JOBS = Resource("jobs", "job", ("id", "created", "job_type", "status", "image_root_archive_name", "resultant_image_id"))
RECIPES = Resource(
    "recipes", "recipe", ("id", "name", "linux_distribution", "arch", "created", "nightly", "nightly_failures")
)
IMAGES = Resource("images", "image", ("id", "name", "arch", "created"))
PUBLIC_KEYS = Resource("public-keys", "public key", ("id", "name", "created"))


def add_verbs(app: typer.Typer, resource: Resource) -> None:
    """Give a group the verbs that all records have; images have a `list` of their own."""
    if resource is not IMAGES:

        @app.command("list", help=f"List all {resource.noun}s.")
        def list_all(name: OnlyName = None, _format: FormatOption = None) -> None:
            show_list(connect().get(resource.path, **given(name=name)), resource.columns)

    @app.command("describe", help=f"Show one {resource.noun}.")
    def describe(identity: Identity, _format: FormatOption = None) -> None:
        client = connect()
        show_record(client.get(f"{resource.path}/{resource.identify(client, identity)}"))

    @app.command("delete", help=f"Delete one {resource.noun}.")
    def delete(identity: Identity, dry_run: DryRun = False, _format: FormatOption = None) -> None:
        client = connect()
        remove(client, f"{resource.path}/{resource.identify(client, identity)}", dry_run)

    @app.command("deleteall", help=f"Delete all {resource.noun}s, without asking.")
    def delete_all(dry_run: DryRun = False, _format: FormatOption = None) -> None:
        remove(connect(), resource.path, dry_run)


def remove(client: ImsClient, path: str, dry_run: bool, **query: Any) -> None:
    """Delete what is at a path, or show what would be deleted."""
    if not dry_run:
        client.call("DELETE", path, params=query)
        return
    show_list(client.call("DELETE", path, params={**query, "dry_run": True})["would_delete"], ("id", "name", "objects"))


def change(resource: Resource, identity: str, fields: dict[str, Any]) -> None:
    """Change a record and show it. Raises InputError: there is nothing to change."""
    if not fields:
        raise InputError("there is nothing to change", f"See {resource.command} update --help")
    client = connect()
    show_record(client.update(f"{resource.path}/{resource.identify(client, identity)}", **fields))
