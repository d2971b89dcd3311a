"""`ims images`: what nodes boot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ims.cli.login import connect
from ims.cli.options import (
    ArchOption,
    Identity,
    LinkEtag,
    LinkPath,
    LinkType,
    NameOption,
    NewNameOption,
    given,
    group,
    link,
)
from ims.cli.output import FormatOption, show_record
from ims.cli.resources import IMAGES, add_verbs, change
from ims.errors import InputError

app = group("images", "Images, which nodes boot.")
add_verbs(app, IMAGES)

MetadataKey = Annotated[str | None, typer.Option(help="Name of a label.")]
MetadataValue = Annotated[str | None, typer.Option(help="Its value.")]


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
    _format: FormatOption = None,
) -> None:
    """Change an image. A link is set once."""
    metadata = given(operation=metadata_operation, key=metadata_key, value=metadata_value)
    if metadata and not (metadata_operation and metadata_key):
        raise InputError("a label needs its name and what to do", "Give --metadata-operation and --metadata-key")
    fields = given(name=name, arch=arch, link=link(link_type, link_path, link_etag), metadata=metadata or None)
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
