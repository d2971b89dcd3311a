"""`/nights/repositories`: the repositories whose publications start nights, see `ims.triggers.publications`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import lru_cache

from fastapi import APIRouter
from pydantic import BaseModel, Field

from ims.api.http.auth import may_read
from ims.api.http.services import RecordsService, StoreService
from ims.errors import ImsError, InputError, MissingError
from ims.nights import RecipeState, due_recipes
from ims.recipes.build_inputs import MAX_BYTES, BuildInputs
from ims.records.models import Recipe
from ims.records.selection import Selection
from ims.records.store import Records
from ims.settings import settings
from ims.storage.manifest import MAX_BYTES as MAX_MANIFEST
from ims.storage.manifest import PROVENANCE, read_manifest
from ims.storage.objects import ObjectName, ObjectStore

MAX_REPOSITORIES = 1000
INDEXES = ("/repomd.xml", "/InRelease", "/Release")
"""The ends of addresses of indexes. Others are addresses of lists of mirrors, which may differ at each request."""

log = logging.getLogger(__name__)
router = APIRouter(prefix="/nights", tags=["nights"])


class ObservedRepository(BaseModel):
    """A repository of recipes that are built nightly. `recipes` are their ids."""

    index_url: str = Field(description="The address of the index, without a login.")
    digests: list[str] = Field(description="The checksums that the index had when the newest images were built.")
    recipes: list[str]


@router.get("/repositories", dependencies=[may_read()], response_model=list[ObservedRepository])
def list_repositories(records: RecordsService, store: StoreService) -> list[ObservedRepository]:
    """List the repositories from which the newest images of the due recipes were built; at most 1000.

    Repositories that are found through a list of mirrors are left out.
    """
    states = (RecipeState.model_validate(recipe) for recipe in records.list(Recipe, Selection()))
    observed = ((recipe.id, _observed(recipe.id, records, store)) for recipe in due_recipes(states))
    return _by_address(observed)[:MAX_REPOSITORIES]


def _by_address(observed: Iterable[tuple[str, Mapping[str, str]]]) -> list[ObservedRepository]:
    found: dict[str, ObservedRepository] = {}
    for recipe, repositories in observed:
        for address, digest in repositories.items():
            if not address.endswith(INDEXES):
                continue
            entry = found.setdefault(address, ObservedRepository(index_url=address, digests=[], recipes=[]))
            entry.recipes.append(recipe)
            if digest not in entry.digests:
                entry.digests.append(digest)
    return list(found.values())


def _observed(recipe: str, records: Records, store: ObjectStore) -> Mapping[str, str]:
    """The repositories in the build inputs of the newest image of a recipe; empty if they are unknown."""
    try:
        image = records.newest_image(records.get(Recipe, recipe))
        return _repositories(store, image.link_path) if image.link_path is not None else {}
    except MissingError:
        return {}
    except ImsError as error:
        log.warning("the repositories of the recipe %s are not known: %s", recipe, error)
        return {}


@lru_cache(maxsize=4096)  # objects of an image never change
def _repositories(store: ObjectStore, manifest: str) -> Mapping[str, str]:
    buckets = settings().buckets
    name = ObjectName.parse(manifest, buckets)
    artifacts = read_manifest(store.read_bytes(name, MAX_MANIFEST), name, buckets).of_type(PROVENANCE)
    if len(artifacts) != 1:
        raise InputError(f"{manifest} does not name the build inputs of the image")
    return BuildInputs.read(store.read_bytes(ObjectName.parse(artifacts[0].link.path, buckets), MAX_BYTES)).repositories
