"""Fetches the recipe from S3, unpacks it, renders its templates and has kiwi check it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, Field

from ims.masking import load, masked, save
from ims.recipes import archive
from ims.recipes.availability import ask_all, missing, not_available
from ims.recipes.description import Repository, check_description, read_description
from ims.recipes.secrets import TemplateValues
from ims.recipes.template import render
from ims.settings import settings
from ims.steps.step import Step, StepInput
from ims.storage.objects import ObjectName, ObjectStore
from ims.storage.sessions import Grant, reading
from ims.workspace import Workspace

log = logging.getLogger(__name__)


class Input(StepInput):
    """`path` is the S3 address of the recipe archive."""

    recipe_id: str
    path: str
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
    """Leaves the rendered recipe in `recipe/`, and the secrets in it in `secrets.json`."""
    folder = step.workspace.recipe
    variables = use_secrets(step.templates, step.recipe_id, step.workspace)
    digest, templates = fetch(ObjectStore.from_environment(), step.path, variables, step.workspace)
    description = read_description(folder)
    check_description(folder)
    log.info(
        "recipe %s %s: digest %s, %s, %d repositories, %d packages, templates: %s",
        description.name,
        description.version,
        digest,
        description.package_manager,
        len(description.repositories),
        len(description.packages),
        ", ".join(templates) or "none",
    )
    return FetchedRecipe(
        digest=digest,
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
    answers = asyncio.run(ask_all(secret, settings().ca_certificate_path))
    later = missing(answers)
    pending = [answer.repository.without_login() for answer in answers if not answer.ready]
    if any(masked(item.metadata_url) != item.metadata_url for item in pending):
        raise not_available(later)
    return [item for item in repositories if item not in secret] + pending


def fetch(store: ObjectStore, path: str, variables: Mapping[str, str], workspace: Workspace) -> tuple[str, list[str]]:
    """Unpack the recipe archive at the S3 address `path` into `recipe/` and render its templates.

    Returns the digest of the recipe as it was packed, and the names of the templates.
    Raises InputError if it is not a recipe, MissingError or UnavailableError if it cannot be fetched.
    """
    folder = workspace.recipe
    fetch_archive(store, path, workspace.recipe_archive, folder)
    digest = archive.digest(folder)
    rendered = render(folder, variables)
    secrets = load(workspace.secrets)
    secrets.passwords.extend(read_description(folder).logins)
    secrets.hide()
    save(workspace.secrets, secrets)
    return digest, rendered


def fetch_archive(store: ObjectStore, path: str, packed: Path, folder: Path, entry: str = archive.CONFIG) -> None:
    """Download the archive at the S3 address `path` to `packed` and unpack it into `folder`.

    Raises the errors of `archive.unpack`, and MissingError or UnavailableError if it cannot be downloaded.
    """
    limits = settings()
    name = ObjectName.parse(path, limits.buckets)
    max_bytes = limits.recipe_max_mib * 1024 * 1024
    digests = store.download(name, packed, limit=max_bytes)
    log.info("fetched %s: %d bytes, sha256 %s", name, digests.size, digests.sha256)
    archive.unpack(packed, folder, max_bytes=max_bytes, max_files=limits.recipe_max_files, entry=entry)
    packed.unlink()


def grants(step: Input, store: ObjectStore) -> list[Grant]:
    """The step reads the archive. Raises MissingError, since S3 does not tell a step that an object does not exist."""
    store.stat(name := ObjectName.parse(step.path, settings().buckets))
    return [reading([name])]


STEP = Step("fetch_recipe", Input, run, s3=grants, renders=True)
