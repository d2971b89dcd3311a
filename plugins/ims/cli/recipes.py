"""`ims recipes`: the recipes that images are built from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ims.cli.login import connect
from ims.cli.option_groups import LinkOptions, with_groups
from ims.cli.options import (
    ArchOption,
    DkmsOption,
    Identity,
    NameOption,
    NewNameOption,
    Truth,
    assignments,
    comma_separated,
    dictionary,
    given,
    group,
    profile_names,
    truth,
)
from ims.cli.output import FormatOption, for_people, say, show_list, show_record
from ims.cli.resources import RECIPES, add_verbs, change

app = group("recipes", "Manage recipes, which images are built from.")
add_verbs(app, RECIPES)

MAX_DIGEST = len("sha256:") + 12
KEPT_FIELDS = ("nightly", "kernel_file_name", "initrd_file_name", "kernel_parameters_file_name")
"""The fields of the last push that a push keeps unless they are set again."""

Nightly = Annotated[
    Truth | None,
    typer.Option(help="Whether the nightly builds build it. True also resumes a paused recipe.", case_sensitive=False),
]


ProfilesOption = Annotated[
    str | None, typer.Option(help="Profiles of the description that jobs build, separated by commas.")
]


@dataclass(frozen=True)
class RecipeOptions(LinkOptions):
    """The fields of a recipe that can be set when it is created and changed later."""

    arch: ArchOption = None
    require_dkms: DkmsOption = None
    nightly: Nightly = None
    profiles: ProfilesOption = None
    kernel_file_name: Annotated[
        str | None, typer.Option(help="Name of the kernel in /boot. Empty: vmlinuz, or Image on aarch64.")
    ] = None
    initrd_file_name: Annotated[str | None, typer.Option(help="Name of the initrd in /boot. Empty: initrd.")] = None
    kernel_parameters_file_name: Annotated[
        str | None, typer.Option(help="Name of the kernel parameters in /boot. Empty: kernel-parameters.")
    ] = None
    template_dictionary_key: Annotated[
        str | None, typer.Option(help="Names of template variables, separated by commas.")
    ] = None
    template_dictionary_value: Annotated[str | None, typer.Option(help="Their values, separated by commas.")] = None

    def fields(self) -> dict[str, Any]:
        """Return the given fields in the form of the API."""
        return given(
            arch=self.arch,
            require_dkms=truth(self.require_dkms),
            nightly=truth(self.nightly),
            profiles=profile_names(self.profiles),
            kernel_file_name=self.kernel_file_name,
            initrd_file_name=self.initrd_file_name,
            kernel_parameters_file_name=self.kernel_parameters_file_name,
            link=self.link(),
            template_dictionary=comma_separated(self.template_dictionary_key, self.template_dictionary_value),
        )


@app.command()
@with_groups
def create(
    name: NameOption,
    recipe_type: Annotated[
        Literal["kiwi-ng", "packer"], typer.Option(help="The program that builds it.", show_default=False)
    ],
    linux_distribution: Annotated[
        str, typer.Option(help="Linux distribution, such as sles15 or debian12.", show_default=False)
    ],
    options: RecipeOptions,
    _format: FormatOption = None,
) -> None:
    """Register a recipe. Its archive can be uploaded to S3 before or after that."""
    fields = {"name": name, "recipe_type": recipe_type, "linux_distribution": linux_distribution}
    show_record(connect().create(RECIPES.path, **fields, **options.fields()))


@app.command()
@with_groups
def update(
    identity: Identity, name: NewNameOption = None, *, options: RecipeOptions, _format: FormatOption = None
) -> None:
    """Change a recipe. Template variables are replaced as a whole. A link can be set only once."""
    change(RECIPES, identity, given(name=name) | options.fields())


@app.command()
def plan(identity: Identity, _format: FormatOption = None) -> None:
    """Show whether a recipe must be built and why, without building it. The verdict is skip, repack or build.

    List all inputs of the build: the digest or value, or why it cannot be observed, and whether it changed.
    """
    client = connect()
    found = client.call("POST", f"{RECIPES.path}/{RECIPES.identify(client, identity)}/plan")
    if not for_people():
        show_record(found)
        return
    show_record({name: value for name, value in found.items() if name != "inputs"})
    if found["inputs"]:
        print()
        show_list([_row(item) for item in found["inputs"]], ("input", "observed", "changed"))


def _row(item: dict[str, Any]) -> dict[str, str]:
    """A row of the table of inputs. Digests are shortened."""
    observed = str(item["observed"] or "none")
    if item["opaque"]:
        observed = f"opaque: {item['opaque']}"
    elif observed.startswith("sha256:"):
        observed = observed[:MAX_DIGEST]
    changed = {True: "yes", False: "no"}.get(item["changed"], "unknown")
    return {"input": item["name"], "observed": observed, "changed": changed}


@app.command()
def push(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder that contains config.xml.", show_default=False)
    ],
    name: Annotated[str | None, typer.Option(help="Name of the recipe. The default is the name of the folder.")] = None,
    distribution: Annotated[str | None, typer.Option(help="Linux distribution. The default is sles15.")] = None,
    var: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Set a template variable. Can be given several times.")
    ] = None,
    arch: ArchOption = None,
    nightly: Nightly = None,
    profiles: ProfilesOption = None,
    _format: FormatOption = None,
) -> None:
    """Check a recipe folder, pack it, upload it and register it.

    If something is wrong with the recipe, all of it is printed, and nothing is uploaded. `.git`, what git ignores, and
    files that systems and editors make are left out.

    A file `.ims_recipe.yaml` in the folder can set the name, the distribution, the names of files in /boot and whether
    the recipe is built nightly; options override it. Template variables, the names of files in /boot and the mark for
    nightly builds stay as in the last push of the same name and architecture, unless they are set again.

    Every push creates a new record, because the recipe of an existing image must not change. From then on, the name
    means the new record. Older records of that name stay. Nightly builds use the newest.
    """
    from ims.cli import s3
    from ims.cli.pushing import push as push_folder
    from ims.recipes.registration import read_registration

    options = given(
        name=name, linux_distribution=distribution, arch=arch, nightly=truth(nightly), profiles=profile_names(profiles)
    )
    fields = {
        "name": folder.resolve().name,
        "linux_distribution": "sles15",
        **read_registration(folder).record_fields,
        **options,
    }
    variables, client = assignments(var or ()), connect()
    last = RECIPES.newest(client, fields["name"], arch=arch or "x86_64") or {}
    kept = {item["key"]: item["value"] for item in last.get("template_dictionary", ())}
    fields["template_dictionary"] = dictionary(kept | variables)
    also_kept = {name: last[name] for name in KEPT_FIELDS if last.get(name) and name not in fields}
    show_record(push_folder(client, s3.store(client), folder, **fields, **also_kept))
    if names := sorted(kept.keys() - variables.keys()):
        say(f"kept template variables of the last push: {', '.join(names)}")
    if also_kept:
        say(f"kept fields of the last push: {', '.join(also_kept)}")
