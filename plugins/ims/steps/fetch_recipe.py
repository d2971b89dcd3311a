"""Fetches the recipe from S3. In the sandbox, it is unpacked, rendered, read, and checked by kiwi."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from ims.masking import Secrets, load, masked, save
from ims.recipes.description import Repository
from ims.recipes.reading import ReadArchive, RecipeArchive, read_archive
from ims.recipes.secrets import TemplateValues
from ims.sandbox.call import call
from ims.settings import settings
from ims.steps import readings
from ims.steps.step import Step, StepInput
from ims.steps.views import view_of
from ims.storage.objects import ObjectName, ObjectStore
from ims.storage.sessions import Grant, reading
from ims.workspace import Workspace

log = logging.getLogger(__name__)

MIB = 1024 * 1024
READ_SECONDS = 900
"""How long it may take to unpack, render, read and check a recipe."""


class Input(StepInput):
    """`path` is the S3 address of the recipe archive. Without `profiles`, the imported ones are built."""

    recipe_id: str
    path: str
    profiles: Annotated[list[str], BeforeValidator(lambda given: given or [])] = Field(default_factory=list)
    templates: TemplateValues = Field(default_factory=TemplateValues)


class FetchedRecipe(BaseModel):
    """The digest of a recipe archive, and what its description says, without secrets.

    `repositories` are those to wait for: repositories that were available with their login are not among them.
    """

    digest: str
    name: str
    version: str
    package_manager: str
    repositories: list[Repository]
    packages: list[str]


def run(step: Input) -> FetchedRecipe:
    """Leaves the rendered recipe in `recipe/`, what it says in `recipe.json`, and its secrets in `secrets.json`."""
    variables = use_secrets(step.templates, step.recipe_id, step.workspace)
    store, arch = ObjectStore.from_environment(), platform.machine()
    found = fetch(store, step.path, variables, step.workspace, arch, step.profiles)
    found.recipe.save(step.workspace.recipe_summary)
    description = found.recipe.description
    log.info(
        "recipe %s %s: digest %s, %s, %d repositories, %d packages, templates: %s",
        description.name,
        description.version,
        found.digest,
        description.package_manager,
        len(description.repositories),
        len(description.packages),
        ", ".join(found.templates) or "none",
    )
    return FetchedRecipe(
        digest=found.digest,
        name=masked(description.name),
        version=masked(description.version),
        package_manager=masked(description.package_manager),
        repositories=repositories_to_wait_for(description.repositories),
        packages=[masked(name) for name in description.packages],
    )


def use_secrets(templates: TemplateValues, recipe_id: str, workspace: Workspace) -> dict[str, str]:
    """Returns the template variables of a recipe with their secrets, which this step and later ones hide from now on.

    Raises InputError if a secret is unknown.
    """
    variables, secrets = templates.resolve(recipe_id)
    secrets.hide()
    save(workspace.secrets, secrets)
    return variables


def repositories_to_wait_for(repositories: Sequence[Repository]) -> list[Repository]:
    """Ask the repositories with a secret once, since only this step has it; returns the others without secrets.

    Those that do not answer yet are returned without their login, unless the secret is elsewhere in the address.
    Raises InputError if a repository refuses the login, UnavailableError if nobody else can wait for it.
    """
    secret = [item for item in repositories if item.needs_login or masked(item.metadata_url) != item.metadata_url]
    if not secret:
        return list(repositories)
    import asyncio

    from ims.recipes.availability import ask_all, missing, not_available  # slow to import

    answers = asyncio.run(ask_all(secret, settings().ca_certificate_path))
    later = missing(answers)
    pending = [answer.repository.without_login() for answer in answers if not answer.ready]
    if any(masked(item.metadata_url) != item.metadata_url for item in pending):
        raise not_available(later)
    return [item for item in repositories if item not in secret] + pending


def fetch(
    store: ObjectStore,
    path: str,
    variables: Mapping[str, str],
    workspace: Workspace,
    arch: str,
    profiles: Sequence[str] = (),
    *,
    only_reading: bool = False,
) -> ReadArchive:
    """Fetch the recipe archive at the S3 address `path`, and unpack, render and read it in the sandbox.

    The rendered recipe is in `recipe/`. With `only_reading` it need not be there, and what was read before is returned.
    Raises PermanentError if it is not a recipe, MissingError or UnavailableError if it cannot be fetched.
    """
    limits = settings()
    sha256 = download(store, path, workspace.recipe_archive)
    packed = RecipeArchive(
        archive=workspace.recipe_archive,
        folder=workspace.recipe,
        max_bytes=limits.recipe_max_mib * MIB,
        max_files=limits.recipe_max_files,
        variables=dict(variables),
        arch=arch,
        profiles=list(profiles),
    )
    secrets = load(workspace.secrets)

    def read() -> ReadArchive:
        return call(read_archive, packed, view_of(workspace), seconds=READ_SECONDS)

    found = readings.keep(sha256, packed, read) if only_reading and secrets == Secrets() else read()
    workspace.recipe_archive.unlink(missing_ok=True)
    secrets.passwords.extend(found.recipe.description.logins)
    secrets.hide()
    save(workspace.secrets, secrets)
    return found


def download(store: ObjectStore, path: str, packed: Path) -> str:
    """Download the archive at the S3 address `path` to `packed`; returns its SHA-256.

    Raises MissingError or UnavailableError.
    """
    limits = settings()
    name = ObjectName.parse(path, limits.buckets)
    digests = store.download(name, packed, limit=limits.recipe_max_mib * MIB)
    log.info("fetched %s: %d bytes, sha256 %s", name, digests.size, digests.sha256)
    return digests.sha256


def grants(step: Input, store: ObjectStore) -> list[Grant]:
    """The step reads the archive. Raises MissingError, since S3 does not tell a step that an object does not exist."""
    store.stat(name := ObjectName.parse(step.path, settings().buckets))
    return [reading([name])]


STEP = Step("fetch_recipe", Input, run, s3=grants, privileged=True, renders=True)
