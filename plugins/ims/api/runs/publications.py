"""`/nights/repositories`: the repositories whose publications start nights, see `ims.triggers.publications`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from fastapi import APIRouter
from pydantic import BaseModel, Field

from ims.api.http.auth import may_read
from ims.api.http.services import RecordsService, StoreService
from ims.errors import ImsError, InputError
from ims.nights import RecipeState, due_recipes
from ims.recipes.build_inputs import MAX_BYTES, BuildInputs
from ims.records.models import Image, Recipe
from ims.records.selection import Selection
from ims.settings import settings
from ims.storage.manifest import MAX_BYTES as MAX_MANIFEST
from ims.storage.manifest import PROVENANCE, read_manifest
from ims.storage.objects import ObjectName, ObjectStore

MAX_REPOSITORIES = 1000
INDEXES = ("/repomd.xml", "/InRelease", "/Release")
"""The ends of addresses of indexes. Others are addresses of lists of mirrors, which may differ at each request."""
FAILURE_SECONDS = 300
"""How long build inputs that could not be read are not read again."""

log = logging.getLogger(__name__)
router = APIRouter(prefix="/nights", tags=["nights"])
_next_reads: dict[str, float] = {}
"""When to read the build inputs again that could not be read, by the addresses of the manifests."""


class ObservedRepository(BaseModel):
    """A repository of recipes that are built nightly. `recipes` are their ids."""

    index_url: str | None = Field(
        description="The address of the index, without a login. "
        "null: the recipes have repositories that are unknown or cannot be watched."
    )
    digests: list[str] = Field(description="The checksums that the index had when the newest images were built.")
    recipes: list[str]


class Observed(NamedTuple):
    """The repositories of a recipe: the digests of their indexes by address, and whether these are all."""

    recipe: str
    repositories: Mapping[str, str]
    is_complete: bool


@router.get("/repositories", dependencies=[may_read()], response_model=list[ObservedRepository])
def list_repositories(records: RecordsService, store: StoreService) -> list[ObservedRepository]:
    """List the repositories from which the newest images of the due recipes were built; at most 1000.

    Repositories that are found through a list of mirrors are left out. If there are recipes whose repositories are not
    all listed, the last item names them: its `index_url` is null. Recipes without an image are left out.
    """
    recipes = records.list(Recipe, Selection())
    due = due_recipes(RecipeState.model_validate(recipe) for recipe in recipes)
    images = records.newest_images(recipes)
    newest = {recipe.id: images[recipe.id] for recipe in due if recipe.id in images}
    _forget_failures(newest.values())
    return _by_address([_observe(store, recipe, image) for recipe, image in newest.items()])


def _by_address(observed: Iterable[Observed]) -> list[ObservedRepository]:
    found: dict[str, ObservedRepository] = {}
    incomplete: dict[str, None] = {}
    for recipe, repositories, is_complete in observed:
        if not is_complete:
            incomplete[recipe] = None
        for address, digest in repositories.items():
            entry = found.setdefault(address, ObservedRepository(index_url=address, digests=[], recipes=[]))
            entry.recipes.append(recipe)
            if digest not in entry.digests:
                entry.digests.append(digest)
    listed = list(found.values())
    for entry in listed[MAX_REPOSITORIES:]:
        incomplete |= dict.fromkeys(entry.recipes)
    rest = [ObservedRepository(index_url=None, digests=[], recipes=list(incomplete))] if incomplete else []
    return [*listed[:MAX_REPOSITORIES], *rest]


def _observe(store: ObjectStore, recipe: str, image: Image) -> Observed:
    """The repositories in the build inputs of the newest image of a recipe.

    They are not all if the image has no readable build inputs or was built from an older push of the recipe.
    """
    repositories = _known_repositories(store, image.link_path) if image.link_path is not None else None
    if repositories is None:
        return Observed(recipe, {}, is_complete=False)
    watchable = {address: digest for address, digest in repositories.items() if address.endswith(INDEXES)}
    return Observed(recipe, watchable, image.source_recipe_id == recipe and len(watchable) == len(repositories))


def _known_repositories(store: ObjectStore, manifest: str) -> Mapping[str, str] | None:
    """The repositories of an image, or None if they cannot be read, which is tried again after FAILURE_SECONDS."""
    if _next_reads.get(manifest, 0) > time.monotonic():
        return None
    try:
        repositories = _repositories(store, manifest)
    except ImsError as error:
        if manifest not in _next_reads:
            log.warning("the repositories of the image %s are unknown: %s", manifest, error)
        _next_reads[manifest] = time.monotonic() + FAILURE_SECONDS
        return None
    if _next_reads.pop(manifest, None) is not None:
        log.info("the repositories of the image %s are known again", manifest)
    return repositories


def _forget_failures(newest: Iterable[Image]) -> None:
    """Forget the images that are not the newest ones any more."""
    for manifest in set(_next_reads) - {image.link_path for image in newest}:
        _next_reads.pop(manifest, None)


@lru_cache(maxsize=4096)  # objects of an image never change
def _repositories(store: ObjectStore, manifest: str) -> Mapping[str, str]:
    buckets = settings().buckets
    name = ObjectName.parse(manifest, buckets)
    artifacts = read_manifest(store.read_bytes(name, MAX_MANIFEST), name, buckets).of_type(PROVENANCE)
    if len(artifacts) != 1:
        raise InputError(f"{manifest} does not name the build inputs of the image")
    return BuildInputs.read(store.read_bytes(ObjectName.parse(artifacts[0].link.path, buckets), MAX_BYTES)).repositories
