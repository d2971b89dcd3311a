"""Reads a recipe archive. Everything that parses what the author of a recipe wrote happens here, in the sandbox."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ims import masking
from ims.errors import PermanentError
from ims.files import write_private
from ims.recipes import archive
from ims.recipes.build_inputs import recipe_digests
from ims.recipes.description import Description, read_description
from ims.recipes.expansion import Expansion, expand
from ims.recipes.legacy_functions import find_legacy_functions
from ims.recipes.network import RecipeNetwork, read_network
from ims.recipes.package_request import PackageRequest, UnknownPackagesError, read_package_request
from ims.recipes.registration import read_registration
from ims.recipes.template import render

log = logging.getLogger(__name__)

Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]


class RecipeDigests(BaseModel):
    """The digests of the parts of a rendered recipe, as in `ims.recipes.build_inputs.BuildInputs`."""

    description: Digest
    bootstrap_script: Digest
    files: Digest


class RenderedRecipe(BaseModel):
    """What the service knows of a rendered recipe. It contains the logins of the repositories.

    `request` is None if it cannot be predicted which packages a build installs, and `unknown` says why.
    """

    model_config = ConfigDict(frozen=True)

    expansion: Expansion
    description: Description
    digests: RecipeDigests
    network: RecipeNetwork
    request: PackageRequest | None = None
    unknown: str = ""

    def save(self, path: Path) -> None:
        """Write the recipe to a file that only its owner can read."""
        write_private(path, self.model_dump_json())

    @classmethod
    def load(cls, path: Path) -> RenderedRecipe:
        """The recipe in a file that `save` wrote. Raises PermanentError if there is none."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValueError):
            raise PermanentError(f"{path.name} does not describe the recipe of the job", "Start again") from None


class RecipeArchive(BaseModel):
    """A recipe archive, the limits for its content, and the variables of its templates.

    `arch` and `profiles` are built. Without profiles, those that the description imports.
    """

    archive: Path
    folder: Path
    max_bytes: int
    max_files: int
    variables: dict[str, str]
    arch: str
    profiles: list[str] = Field(default_factory=list)


class ReadArchive(BaseModel):
    """The digest of a recipe as it was packed, the names of its templates, and the recipe with these rendered."""

    digest: Digest
    templates: list[str]
    recipe: RenderedRecipe


def read_archive(packed: RecipeArchive) -> ReadArchive:
    """Unpack an archive to its folder, render the templates there, and read the result; in the sandbox.

    Raises InputError if it is not a valid recipe.
    """
    folder = packed.folder
    archive.unpack(packed.archive, folder, max_bytes=packed.max_bytes, max_files=packed.max_files)
    digest = archive.digest(folder)
    templates = render(folder, packed.variables)
    for problem in find_legacy_functions(folder):
        log.warning("%s", problem)
    recipe = read_recipe(folder, packed.arch, packed.profiles)
    masking.hide(recipe.description.logins)
    return ReadArchive(digest=digest, templates=templates, recipe=recipe)


def read_recipe(folder: Path, arch: str, profiles: Sequence[str] = ()) -> RenderedRecipe:
    """Have kiwi read a rendered recipe. Raises InputError if it is invalid."""
    registration, expansion = read_registration(folder), expand(folder, arch, profiles)
    root = expansion.root
    description = read_description(root, registration.network, registration.network_hosts)
    request, unknown = None, ""
    try:
        request = read_package_request(root)
    except UnknownPackagesError as error:
        unknown = error.reason
    return RenderedRecipe(
        expansion=expansion,
        description=description,
        digests=RecipeDigests(**recipe_digests(folder, expansion)),
        network=read_network(registration, description, root),
        request=request,
        unknown=unknown,
    )
