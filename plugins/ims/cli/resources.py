"""The verbs that all kinds of records share, and how a user names a record."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from ims.cli.login import connect
from ims.cli.options import DryRun, Force, Identity, OnlyName, Yes, given
from ims.cli.output import FormatOption, say, show_list, show_record
from ims.errors import InputError, MissingError, PermanentError

if TYPE_CHECKING:
    from ims.client import ImsClient

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PREFIX = re.compile(r"[0-9a-f-]{4,35}", re.IGNORECASE)
_JOB_NAME = "image_root_archive_name"
DELETION_COLUMNS = ("id", "name", "objects")
"""The columns of what would be deleted."""


@dataclass(frozen=True)
class Resource:
    """A kind of record: its path in the API, its name in messages and the columns of its table."""

    path: str
    noun: str
    columns: Sequence[str]
    wide: Sequence[str] = ()

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


JOBS = Resource(
    "jobs",
    "job",
    ("id", "created", "job_type", "status", "image_root_archive_name", "reason"),
    ("resultant_image_id", "started_by"),
)
RECIPES = Resource(
    "recipes", "recipe", ("id", "name", "linux_distribution", "arch", "created", "nightly", "nightly_failures")
)
IMAGES = Resource(
    "images",
    "image",
    ("id", "name", "created", "recipe", "size", "packages", "pinned"),
    ("arch", "kernels", "job_id", "source_image_id", "nightly", "metadata"),
)
PUBLIC_KEYS = Resource("public-keys", "public key", ("id", "name", "created"))


def add_verbs(app: typer.Typer, resource: Resource) -> None:
    """Add the verbs that all kinds of records share to a group. Images have a `list` of their own."""
    if resource is not IMAGES:

        @app.command("list", help=f"List all {resource.noun}s.")
        def list_all(name: OnlyName = None, _format: FormatOption = None) -> None:
            show_list(connect().get(resource.path, **given(name=name)), resource.columns, resource.wide)

    @app.command("describe", help=f"Show one {resource.noun}.")
    def describe(identity: Identity, _format: FormatOption = None) -> None:
        client = connect()
        show_record(client.get(f"{resource.path}/{resource.identify(client, identity)}"))

    if resource is IMAGES:
        _add_deletion_of_images(app)
        return

    @app.command("delete", help=_delete_help(resource))
    def delete(identity: Identity, dry_run: DryRun = False, _format: FormatOption = None) -> None:
        remove_one(resource, identity, dry_run)

    @app.command("deleteall", help=_delete_help(resource, all_of_them=True))
    def delete_all(dry_run: DryRun = False, yes: Yes = False, _format: FormatOption = None) -> None:
        remove_all(resource, dry_run, yes)


def _add_deletion_of_images(app: typer.Typer) -> None:
    """Add the commands that delete images, which may be pinned."""

    @app.command("delete", help=_delete_help(IMAGES))
    def delete(identity: Identity, dry_run: DryRun = False, force: Force = False, _format: FormatOption = None) -> None:
        remove_one(IMAGES, identity, dry_run, force)

    @app.command("deleteall", help=_delete_help(IMAGES, all_of_them=True))
    def delete_all(
        dry_run: DryRun = False, yes: Yes = False, force: Force = False, _format: FormatOption = None
    ) -> None:
        remove_all(IMAGES, dry_run, yes, force)


def _is_deleted(resource: Resource) -> bool:
    return resource.path.startswith("deleted/")


def _delete_help(resource: Resource, *, all_of_them: bool = False) -> str:
    verb = "Purge" if _is_deleted(resource) else "Delete"
    return f"{verb} all {resource.noun}s. On a terminal, ask before." if all_of_them else f"{verb} one {resource.noun}."


def remove_one(resource: Resource, identity: str, dry_run: bool, force: bool = False) -> None:
    """Delete a record and say how to undo that, or show what that would delete.

    Raises PermanentError if an image is pinned, unless `force`.
    """
    client = connect()
    found = resource.identify(client, identity)
    path = f"{resource.path}/{found}"
    if dry_run:
        show_list(would_delete(client, path), DELETION_COLUMNS)
        return
    if resource is IMAGES and not force:
        _check_pins([client.get(path)])
    client.delete(path)
    if _is_deleted(resource):
        say(f"purged the {resource.noun} {found}")
    else:
        say(f"deleted the {resource.noun} {found}. To undo this: {_undo(resource, found)}")


def remove_all(resource: Resource, dry_run: bool, yes: bool, force: bool = False, **query: Any) -> None:
    """Delete the records that a query selects and say how to undo that, or show what that would delete.

    On a terminal, asks before, unless `yes`. Raises PermanentError if images are pinned, unless `force`.
    """
    client = connect()
    found = would_delete(client, resource.path, **query)
    if dry_run:
        show_list(found, DELETION_COLUMNS)
        return
    if resource is IMAGES and not force:
        _check_pins(client.get(resource.path))
    verb, past = _removal(resource)
    if found and not yes:
        confirm(f"{verb} {len(found)} {resource.noun}{'s' * (len(found) > 1)}?")
    client.call("DELETE", resource.path, params=query)
    undo = "" if _is_deleted(resource) or resource is JOBS else f". To undo this for one of them: {_undo(resource)}"
    say(f"{past} {len(found)} {resource.noun}{'s' * (len(found) != 1)}{undo if found else ''}")


def _removal(resource: Resource) -> tuple[str, str]:
    """What DELETE does with the records of a kind, as a request and as a report."""
    if resource is JOBS:
        return "Delete or cancel", "deleted or cancelled"
    return ("Purge", "purged") if _is_deleted(resource) else ("Delete", "deleted")


def confirm(question: str) -> None:
    """Ask the user at a terminal; end the program unless the answer is yes. A script is not asked."""
    if sys.stdin.isatty() and not typer.confirm(question, err=True):
        say("nothing was deleted")
        raise typer.Exit(1)


def would_delete(client: ImsClient, path: str, **query: Any) -> list[dict[str, Any]]:
    """Return which records a DELETE would delete."""
    found: list[dict[str, Any]] = client.call("DELETE", path, params={**query, "dry_run": True})["would_delete"]
    return found


def _check_pins(images: Sequence[dict[str, Any]]) -> None:
    pinned = [f"{image['name']} ({image['id']})" for image in images if image.get("pinned")]
    if pinned:
        shown = ", ".join(pinned[:3]) + (f" and {len(pinned) - 3} more" if len(pinned) > 3 else "")
        raise PermanentError(f"pinned: {shown}. Nothing was deleted", "To delete pinned images, too, give --force")


def _undo(resource: Resource, identity: str = "ID") -> str:
    return f"ims deleted {resource.path} update {identity} --operation undelete"


def change(resource: Resource, identity: str, fields: dict[str, Any]) -> None:
    """Change a record and show it. Raises InputError if there are no fields to change."""
    if not fields:
        raise InputError("there is nothing to change", f"List the options with {resource.command} update --help")
    client = connect()
    show_record(client.update(f"{resource.path}/{resource.identify(client, identity)}", **fields))
