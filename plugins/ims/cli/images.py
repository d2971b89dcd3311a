"""`ims images`: what nodes boot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ims.cli.differences import difference_rows
from ims.cli.login import connect
from ims.cli.options import (
    ArchOption,
    Identity,
    LinkEtag,
    LinkPath,
    LinkType,
    NameOption,
    NewNameOption,
    OnlyName,
    Truth,
    given,
    group,
    link,
    truth,
)
from ims.cli.output import FormatOption, for_people, show_list, show_record
from ims.cli.resources import IMAGES, add_verbs, change
from ims.errors import InputError

app = group("images", "Images, which nodes boot.")
add_verbs(app, IMAGES)

MetadataKey = Annotated[str | None, typer.Option(help="Name of a label.")]
MetadataValue = Annotated[str | None, typer.Option(help="Its value.")]


@app.command("list")
def list_images(
    name: OnlyName = None,
    package: Annotated[str | None, typer.Option(help="Only those that hold this package.")] = None,
    package_below: Annotated[
        str | None, typer.Option(help="In a version below this, in the order of rpm or dpkg.")
    ] = None,
    _format: FormatOption = None,
) -> None:
    """List all images."""
    query = given(name=name, package=package, package_below=package_below)
    show_list(connect().get(IMAGES.path, **query), IMAGES.columns)


@app.command()
def packages(identity: Identity, _format: FormatOption = None) -> None:
    """List the packages of an image."""
    client = connect()
    show_list(
        client.get(f"{IMAGES.path}/{IMAGES.identify(client, identity)}/packages"),
        ("name", "version", "arch", "type", "source", "license"),
    )


@app.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="An id, or a name that only one has.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="The other.")],
    _format: FormatOption = None,
) -> None:
    """Show what is different in another image: packages, files, size."""
    client = connect()
    ids = [IMAGES.identify(client, image) for image in (before, after)]
    found = client.get(f"{IMAGES.path}/{ids[0]}/diff/{ids[1]}")
    if for_people():
        show_list(list(difference_rows(found)), ("what", "name", "before", "after"))
    else:
        show_record(found)


@app.command()
def create(
    name: NameOption,
    arch: ArchOption = None,
    link_type: LinkType = None,
    link_path: LinkPath = None,
    link_etag: LinkEtag = None,
    metadata_key: MetadataKey = None,
    metadata_value: MetadataValue = None,
    _format: FormatOption = None,
) -> None:
    """Register an image whose manifest is in S3, or will be."""
    metadata = {"key": metadata_key, "value": metadata_value or ""} if metadata_key is not None else None
    fields = given(name=name, arch=arch, link=link(link_type, link_path, link_etag), metadata=metadata)
    show_record(connect().create(IMAGES.path, **fields))


@app.command()
def update(
    identity: Identity,
    name: NewNameOption = None,
    arch: ArchOption = None,
    link_type: LinkType = None,
    link_path: LinkPath = None,
    link_etag: LinkEtag = None,
    metadata_operation: Annotated[
        Literal["set", "remove"] | None, typer.Option(help="What to do with the label.")
    ] = None,
    metadata_key: MetadataKey = None,
    metadata_value: MetadataValue = None,
    pinned: Annotated[
        Truth | None, typer.Option(help="Whether no clean-up may remove it.", case_sensitive=False)
    ] = None,
    _format: FormatOption = None,
) -> None:
    """Change an image. A link is set once."""
    metadata = given(operation=metadata_operation, key=metadata_key, value=metadata_value)
    if metadata and not (metadata_operation and metadata_key):
        raise InputError("a label needs its name and what to do", "Give --metadata-operation and --metadata-key")
    fields = given(
        name=name,
        arch=arch,
        link=link(link_type, link_path, link_etag),
        metadata=metadata or None,
        pinned=truth(pinned),
    )
    change(IMAGES, identity, fields)


@app.command()
def pull(
    identity: Identity,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if need be.", show_default=False)],
) -> None:
    """Download an image: rootfs, kernel, initrd and manifest, each verified by its checksum.

    What was interrupted goes on where it was. A file has its own name only when it is whole and verified.
    """
    from ims.cli import s3
    from ims.cli.pulling import pull as pull_image

    client = connect()
    image = client.get(f"{IMAGES.path}/{IMAGES.identify(client, identity)}")
    if image["link"] is None:
        raise InputError(f"the image {image['id']} has no manifest", "Its job has not ended, or it was only registered")
    pull_image(s3.store(client), image["link"]["path"], folder)
