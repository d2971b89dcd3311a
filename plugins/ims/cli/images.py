"""`ims images`: the images that nodes boot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ims.cli.differences import difference_rows
from ims.cli.login import connect
from ims.cli.option_groups import LinkOptions, with_groups
from ims.cli.options import (
    Arch,
    ArchOption,
    Identity,
    NameOption,
    NewNameOption,
    OnlyName,
    Truth,
    complete_group,
    given,
    group,
    truth,
)
from ims.cli.output import FormatOption, for_people, say, show_list, show_record
from ims.cli.resources import IMAGES, add_verbs, change
from ims.errors import InputError, PermanentError

if TYPE_CHECKING:
    from ims.client import ImsClient

app = group("images", "Manage images, which nodes boot.")
add_verbs(app, IMAGES)

MAX_LOOKUPS = 200
"""How many images a list shows with their versions of a package."""

MetadataKey = Annotated[str | None, typer.Option(help="Name of a label.")]
MetadataValue = Annotated[str | None, typer.Option(help="Value of the label.")]


@dataclass(frozen=True)
class Filter:
    """Which images a command lists."""

    arch: Annotated[Arch | None, typer.Option(help="List only images of this architecture.")] = None
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="List only images with this label. Can be repeated.")
    ] = None
    created_after: Annotated[
        str | None, typer.Option(help="List only later images. Times are UTC, such as 2026-11-27T08:00.")
    ] = None
    created_before: Annotated[str | None, typer.Option(help="List only earlier images.")] = None
    package: Annotated[str | None, typer.Option(help="List only images that contain this package.")] = None
    package_below: Annotated[
        str | None,
        typer.Option(
            metavar="[NAME=]VERSION",
            help="List only images with a lower version of the package, in the order of rpm or dpkg. With "
            "NAME=VERSION, --package is not needed.",
        ),
    ] = None
    damaged: Annotated[
        bool | None, typer.Option("--damaged", help="List only images with missing or damaged objects in S3.")
    ] = None


@app.command("list")
@with_groups
def list_images(chosen: Filter, name: OnlyName = None, _format: FormatOption = None) -> None:
    """List all images.

    With --package, the table also shows which versions of the package the images contain.
    """
    client, filters = connect(), _filters(chosen)
    images, unknown = client.query_packages(IMAGES.path, **given(name=name, **filters))
    _say_unknown(unknown)
    columns, package = IMAGES.columns, filters["package"]
    if for_people():
        images = list(_with_recipes(client, images))
        if package is not None:
            images, columns = list(_with_versions(client, images, package)), (*columns, "versions")
    show_list(images, columns, IMAGES.wide)


def _filters(chosen: Filter) -> dict[str, Any]:
    """Return the filters of the API. Raises InputError if the options name two packages."""
    name, equals, version = (chosen.package_below or "").partition("=")
    if not equals:
        return asdict(chosen)
    if chosen.package not in (None, name):
        raise InputError(f"--package names {chosen.package}, --package-below {name}", "Name one package")
    return {**asdict(chosen), "package": name, "package_below": version}


def _with_versions(client: ImsClient, images: list[dict[str, Any]], package: str) -> Iterator[dict[str, Any]]:
    """Yield images with the versions of a package that they contain, which takes a request for each image."""
    for image in images[:MAX_LOOKUPS]:
        found, _ = client.query_packages(f"{IMAGES.path}/{image['id']}/packages")
        yield {**image, "versions": ", ".join(item["version"] for item in found if item["name"] == package)}
    if len(images) > MAX_LOOKUPS:
        say(f"versions are shown only for the first {MAX_LOOKUPS} images: use more filters to see others")
    yield from images[MAX_LOOKUPS:]


def _with_recipes(client: ImsClient, images: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield images with what people want to see of them: the names of their recipes, for example."""
    kinds = ("recipes", "deleted/recipes") if any(image.get("source_recipe_id") for image in images) else ()
    names = {recipe["id"]: recipe["name"] for kind in kinds for recipe in client.get(kind)}
    for image in images:
        recipe = image.get("source_recipe_id")
        shown = {"recipe": names.get(recipe, recipe), "packages": image.get("package_count")}
        size, pinned = image.get("size"), "yes" if image.get("pinned") else None
        yield {**image, **shown, "size": f"{size / 2**20:.1f} MiB" if size is not None else None, "pinned": pinned}


@app.command()
def packages(identity: Identity, _format: FormatOption = None) -> None:
    """List the packages of an image."""
    client = connect()
    found, unknown = client.query_packages(f"{IMAGES.path}/{IMAGES.identify(client, identity)}/packages")
    _say_unknown(unknown)
    show_list(found, ("name", "version", "arch", "type", "source", "license"))


def _say_unknown(images: int) -> None:
    """Say that the answer to a question about packages leaves out images, if it does."""
    if images:
        what = "1 image" if images == 1 else f"{images} images"
        say(f"{what} could not be read: it is unknown which packages {'it has' if images == 1 else 'they have'}")


@app.command()
def diff(
    before: Annotated[
        str,
        typer.Argument(metavar="BEFORE", help="Id or name of the first image.", autocompletion=complete_group),
    ],
    after: Annotated[
        str,
        typer.Argument(metavar="AFTER", help="Id or name of the second image.", autocompletion=complete_group),
    ],
    _format: FormatOption = None,
) -> None:
    """Compare two images: packages, files and size."""
    client = connect()
    ids = [IMAGES.identify(client, image) for image in (before, after)]
    found = client.get(f"{IMAGES.path}/{ids[0]}/diff/{ids[1]}")
    if for_people():
        show_list(list(difference_rows(found)), ("what", "name", "before", "after"))
    else:
        show_record(found)


@app.command()
@with_groups
def create(
    name: NameOption,
    arch: ArchOption = None,
    *,
    link: LinkOptions,
    metadata_key: MetadataKey = None,
    metadata_value: MetadataValue = None,
    _format: FormatOption = None,
) -> None:
    """Register an image. Its manifest can be uploaded to S3 before or after that."""
    metadata = {"key": metadata_key, "value": metadata_value or ""} if metadata_key is not None else None
    show_record(connect().create(IMAGES.path, **given(name=name, arch=arch, link=link.link(), metadata=metadata)))


@app.command()
@with_groups
def update(
    identity: Identity,
    name: NewNameOption = None,
    arch: ArchOption = None,
    *,
    link: LinkOptions,
    metadata_operation: Annotated[
        Literal["set", "remove"] | None, typer.Option(help="Whether to set or remove the label.")
    ] = None,
    metadata_key: MetadataKey = None,
    metadata_value: MetadataValue = None,
    pinned: Annotated[
        Truth | None, typer.Option(help="Whether retention must keep the image.", case_sensitive=False)
    ] = None,
    nightly: Annotated[
        Truth | None,
        typer.Option(
            help="Whether nights repeat its script or playbook. True also resumes a paused image.", case_sensitive=False
        ),
    ] = None,
    _format: FormatOption = None,
) -> None:
    """Change an image. A link can be set only once."""
    metadata = given(operation=metadata_operation, key=metadata_key, value=metadata_value)
    if metadata and not (metadata_operation and metadata_key):
        raise InputError("a label needs a name and an operation", "Give --metadata-operation and --metadata-key")
    fields = given(name=name, arch=arch, link=link.link(), metadata=metadata or None)
    fields |= given(pinned=truth(pinned), nightly=truth(nightly))
    change(IMAGES, identity, fields)


@app.command()
def pull(
    identity: Identity,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The target folder. It is created if necessary.", show_default=False)
    ],
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="OTHER",
            help="A folder with another image that was pulled before: download only what that image lacks.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Download an image: rootfs, kernel, initrd and manifest. Verify each file by its checksum.

    An interrupted download continues where it stopped. A file gets its final name only after it is complete and
    verified.

    With --base, the bytes that both images have are copied from the folder OTHER, which may also be DIR. The manifests
    say which bytes these are if one image was made from the other, or both from a third one. If OTHER cannot be used,
    the rootfs is downloaded in full and a note says why.
    """
    from ims.cli import s3
    from ims.cli.pulling import pull as pull_image

    client = connect()
    image = _linked(client, identity)
    pull_image(s3.store(client), image["link"]["path"], folder, base)


@app.command()
def capture(
    identity: Identity,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="The target folder, new or empty. Default: the name of the image."),
    ] = None,
) -> None:
    """Turn a customization into a script: the packages, files, users and services that a job changed in an image.

    Print what the script does not repeat. The folder contains the script `customize.sh`; `site.yml`, a playbook that
    runs it; `NOT-CAPTURED.txt`, what was printed; and `root/`, the files of the script as an overlay of a recipe.
    """
    from ims.cli import s3
    from ims.cli.pulling import capture as capture_image
    from ims.cli.pulling import show, target_folder

    client = connect()
    image = _linked(client, identity)
    target = target_folder(image, folder)
    capture_image(s3.store(client), image, target)
    show(image, target)


def _linked(client: ImsClient, identity: str) -> dict[str, Any]:
    """Return an image. Raises PermanentError if it has no manifest."""
    image: dict[str, Any] = client.get(f"{IMAGES.path}/{IMAGES.identify(client, identity)}")
    if image["link"] is None:
        raise PermanentError(
            f"the image {image['id']} has no manifest",
            f"Wait until its job has ended, or set it: ims images update {image['id']} --link-path s3://bucket/key",
        )
    return image
