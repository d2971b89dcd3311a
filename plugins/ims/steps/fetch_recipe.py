"""Fetches the recipe from S3, unpacks it, renders its templates and has kiwi check it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, Field

from ims.recipes import archive
from ims.recipes.description import Repository, check_description, read_description
from ims.recipes.template import render
from ims.settings import settings
from ims.steps.step import Step, StepInput
from ims.storage.objects import ObjectName, ObjectStore
from ims.storage.sessions import Grant, reading
from ims.workspace import Workspace

log = logging.getLogger(__name__)


class Input(StepInput):
    """`path` is the S3 address of the recipe archive. `variables` is the template dictionary of the recipe's record."""

    path: str
    variables: dict[str, str] = Field(default_factory=dict)


class FetchedRecipe(BaseModel):
    """The digest of a recipe archive, and what its description says."""

    digest: str
    name: str
    version: str
    package_manager: str
    repositories: list[Repository]
    packages: list[str]


def run(step: Input) -> FetchedRecipe:
    """Leaves the rendered recipe in `recipe/`."""
    folder = step.workspace.recipe
    digest, templates = fetch(ObjectStore.from_environment(), step.path, step.variables, step.workspace)
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
    return FetchedRecipe(digest=digest, **description.as_dict())


def fetch(store: ObjectStore, path: str, variables: Mapping[str, str], workspace: Workspace) -> tuple[str, list[str]]:
    """Unpack the recipe archive at the S3 address `path` into `recipe/` and render its templates.

    Returns the digest of the recipe as it was packed, and the names of the templates.
    Raises InputError if it is not a recipe, MissingError or UnavailableError if it cannot be fetched.
    """
    folder = workspace.recipe
    fetch_archive(store, path, workspace.recipe_archive, folder)
    digest = archive.digest(folder)
    return digest, render(folder, variables)


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


STEP = Step("fetch_recipe", Input, run, s3=grants)
