"""The verbs that all kinds of records share, and how a user names a record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from ims.cli.login import connect
from ims.cli.options import DryRun, Identity, OnlyName, given
from ims.cli.output import FormatOption, say, show_list, show_record
from ims.errors import InputError, MissingError

if TYPE_CHECKING:
    from ims.client import ImsClient

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PREFIX = re.compile(r"[0-9a-f-]{4,35}", re.IGNORECASE)
_JOB_NAME = "image_root_archive_name"


@dataclass(frozen=True)
class Resource:
    """A kind of record: its path in the API, its name in messages and the columns of its table."""

    path: str
    noun: str
    columns: Sequence[str]

    @property
    def command(self) -> str:
        """The group of commands for this kind of record."""
        return "ims " + self.path.replace("/", " ")

    def identify(self, client: ImsClient, text: str) -> str:
        """Return the id of the record that a user gives by its id, its name or the beginning of its id.

        A name means the newest record of that name and takes precedence over the beginning of an id.
        Raises MissingError if no record matches, and InputError if several ids begin with the text.
        """
        if _ID.fullmatch(text):
            return text.lower()
        if (newest := self.newest(client, text)) is not None:
            return str(newest["id"])
        return self._by_prefix(client, text)

    def newest(self, client: ImsClient, name: str, **values: Any) -> dict[str, Any] | None:
        """Return the newest record that has this name and these values, or None if there is none."""
        # A service that does not support the filter returns all records.
        found = [
            record
            for record in client.get(self.path, name=name)
            if record.get("name", record.get(_JOB_NAME)) == name and values.items() <= record.items()
        ]
        return max(reversed(found), key=lambda record: str(record["created"]), default=None)

    def _by_prefix(self, client: ImsClient, prefix: str) -> str:
        records = client.get(self.path) if _PREFIX.fullmatch(prefix) else ()
        ids = [identity for record in records if (identity := str(record["id"])).startswith(prefix.lower())]
        if not ids:
            raise MissingError(f"no {self.noun} has the id or name {prefix}", f"List them with {self.command} list")
        if len(ids) > 1:
            raise InputError(
                f"the ids of {len(ids)} {self.noun}s begin with {prefix}", f"Give one of them: {', '.join(ids)}"
            )
        return ids[0]


JOBS = Resource("jobs", "job", ("id", "created", "job_type", "status", "image_root_archive_name", "resultant_image_id"))
RECIPES = Resource(
    "recipes", "recipe", ("id", "name", "linux_distribution", "arch", "created", "nightly", "nightly_failures")
)
IMAGES = Resource("images", "image", ("id", "name", "arch", "created"))
PUBLIC_KEYS = Resource("public-keys", "public key", ("id", "name", "created"))


def add_verbs(app: typer.Typer, resource: Resource) -> None:
    """Add the verbs that all kinds of records share to a group. Images have a `list` of their own."""
    if resource is not IMAGES:

        @app.command("list", help=f"List all {resource.noun}s.")
        def list_all(name: OnlyName = None, _format: FormatOption = None) -> None:
            show_list(connect().get(resource.path, **given(name=name)), resource.columns)

    @app.command("describe", help=f"Show one {resource.noun}.")
    def describe(identity: Identity, _format: FormatOption = None) -> None:
        client = connect()
        show_record(client.get(f"{resource.path}/{resource.identify(client, identity)}"))

    @app.command("delete", help=_delete_help(resource))
    def delete(identity: Identity, dry_run: DryRun = False, _format: FormatOption = None) -> None:
        client = connect()
        found = resource.identify(client, identity)
        remove(client, f"{resource.path}/{found}", dry_run)
        if not dry_run:
            say(_deleted(resource, found))

    @app.command("deleteall", help=_delete_help(resource, all_of_them=True))
    def delete_all(dry_run: DryRun = False, _format: FormatOption = None) -> None:
        remove(connect(), resource.path, dry_run)


def _is_deleted(resource: Resource) -> bool:
    return resource.path.startswith("deleted/")


def _delete_help(resource: Resource, *, all_of_them: bool = False) -> str:
    verb = "Purge" if _is_deleted(resource) else "Delete"
    return (
        f"{verb} all {resource.noun}s without asking for confirmation."
        if all_of_them
        else f"{verb} one {resource.noun}."
    )


def _deleted(resource: Resource, identity: str) -> str:
    if _is_deleted(resource):
        return f"purged the {resource.noun} {identity}"
    undo = f"ims deleted {resource.path} update {identity} --operation undelete"
    return f"deleted the {resource.noun} {identity}. To undo this: {undo}"


def remove(client: ImsClient, path: str, dry_run: bool, **query: Any) -> None:
    """Delete the records at a path, or show which records that would delete."""
    if not dry_run:
        client.call("DELETE", path, params=query)
        return
    show_list(client.call("DELETE", path, params={**query, "dry_run": True})["would_delete"], ("id", "name", "objects"))


def change(resource: Resource, identity: str, fields: dict[str, Any]) -> None:
    """Change a record and show it. Raises InputError if there are no fields to change."""
    if not fields:
        raise InputError("there is nothing to change", f"List the options with {resource.command} update --help")
    client = connect()
    show_record(client.update(f"{resource.path}/{resource.identify(client, identity)}", **fields))
