"""`ims recipes`: what images are built from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ims.cli.login import connect
from ims.cli.options import (
    ArchOption,
    DkmsOption,
    Identity,
    LinkEtag,
    LinkPath,
    LinkType,
    NameOption,
    NewNameOption,
    TemplateKeys,
    TemplateValues,
    Truth,
    given,
    group,
    link,
    pairs,
    truth,
    variables,
)
from ims.cli.output import FormatOption, say, show_record
from ims.cli.resources import RECIPES, add_verbs, change

app = group("recipes", "Recipes, which images are built from.")
add_verbs(app, RECIPES)

Nightly = Annotated[
    Truth | None,
    typer.Option(help="Whether it is built every night; True goes on with a paused one.", case_sensitive=False),
]
Distribution = Annotated[str, typer.Option(help="As sles15 or debian12.", show_default=False)]


@app.command()
def create(
    name: NameOption,
    recipe_type: Annotated[Literal["kiwi-ng", "packer"], typer.Option(help="What builds it.", show_default=False)],
    linux_distribution: Distribution,
    arch: ArchOption = None,
    require_dkms: DkmsOption = None,
    nightly: Nightly = None,
    link_type: LinkType = None,
    link_path: LinkPath = None,
    link_etag: LinkEtag = None,
    template_keys: TemplateKeys = None,
    template_values: TemplateValues = None,
    _format: FormatOption = None,
) -> None:
    """Register a recipe whose archive is in S3, or will be."""
    fields = given(
        name=name,
        recipe_type=recipe_type,
        linux_distribution=linux_distribution,
        arch=arch,
        require_dkms=truth(require_dkms),
        nightly=truth(nightly),
        link=link(link_type, link_path, link_etag),
        template_dictionary=pairs(template_keys, template_values),
    )
    show_record(connect().create(RECIPES.path, **fields))


@app.command()
def update(
    identity: Identity,
    name: NewNameOption = None,
    arch: ArchOption = None,
    require_dkms: DkmsOption = None,
    nightly: Nightly = None,
    link_type: LinkType = None,
    link_path: LinkPath = None,
    link_etag: LinkEtag = None,
    template_keys: TemplateKeys = None,
    template_values: TemplateValues = None,
    _format: FormatOption = None,
) -> None:
    """Change a recipe. Template variables are replaced all together; a link is set once."""
    fields = given(
        name=name,
        arch=arch,
        require_dkms=truth(require_dkms),
        nightly=truth(nightly),
        link=link(link_type, link_path, link_etag),
        template_dictionary=pairs(template_keys, template_values),
    )
    change(RECIPES, identity, fields)


@app.command()
def plan(identity: Identity, _format: FormatOption = None) -> None:
    """Tell whether a recipe has to be built, and why: skip, repack or build. Nothing is built."""
    client = connect()
    show_record(client.call("POST", f"{RECIPES.path}/{RECIPES.identify(client, identity)}/plan"))


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder with config.xml.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="Its name; else the folder's own, or the folder's.")] = None,
    distribution: Annotated[str | None, typer.Option(help="As sles15, which it is if nothing else is said.")] = None,
    var: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A template variable; repeat it.")] = None,
    arch: ArchOption = None,
    nightly: Nightly = None,
    _format: FormatOption = None,
) -> None:
    """Pack a recipe folder, upload it and register it.

    Name, distribution and whether it is built every night are those of the folder's `.ims_recipe.yaml`, if it has one;
    options go before. Every push makes a new record, for what an image was built from does not change. An older one of
    the same name stays; nightly builds take the newest.
    """
    from ims.cli import s3
    from ims.cli.pushing import push as push_folder
    from ims.recipes.registration import read_registration

    said = given(name=name, linux_distribution=distribution, arch=arch, nightly=truth(nightly))
    fields = {
        "name": folder.resolve().name,
        "linux_distribution": "sles15",
        **read_registration(folder).model_dump(exclude_none=True),
        **said,
    }
    client = connect()
    recipe = push_folder(client, s3.store(client), folder, template_dictionary=variables(var or []), **fields)
    others = [other["id"] for other in client.get(RECIPES.path, name=recipe["name"]) if other["name"] == recipe["name"]]
    if len(others) > 1:
        say(f"{len(others)} recipes have the name {recipe['name']}: say which by its id, or delete older ones")
    show_record(recipe)
