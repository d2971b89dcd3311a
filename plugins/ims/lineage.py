"""A lineage is what the recipes of one name and architecture have in common.

Each push of a recipe makes a new record; the newest record of a lineage counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from ims.jobs import derive_id

Lineage = tuple[str, ...]


class HasLineage(Protocol):
    """A recipe, in whatever form."""

    @property
    def name(self) -> str:
        """The name of the recipe."""

    @property
    def arch(self) -> str:
        """The architecture that it is for."""


class HasOrigin(HasLineage, Protocol):
    """An image, in whatever form."""

    @property
    def source_recipe_id(self) -> str | None:
        """The recipe that it was built from."""


Recipe = TypeVar("Recipe", bound=HasLineage)


def lineage_of(recipe: HasLineage) -> Lineage:
    """Returns the lineage that a recipe belongs to."""
    return (recipe.name, recipe.arch)


def lineage_of_image(image: HasOrigin, recipes: Mapping[str, HasLineage]) -> Lineage:
    """Returns the lineage of the recipe that an image was built from.

    An image that was not built from a recipe has a lineage with those of the same name and architecture.
    """
    source = image.source_recipe_id
    if source is not None:
        return lineage_of(recipes[source]) if source in recipes else (source,)
    return ("", image.name, image.arch)


def lineage_id(name: str, arch: str) -> str:
    """Returns the id of a lineage, which names the folders of its caches."""
    return derive_id(f"recipe\n{name}\n{arch}")


def newest_of_lineages(recipes: Iterable[Recipe]) -> list[Recipe]:
    """Returns the last recipe of each lineage; `recipes` come oldest first."""
    return list({lineage_of(recipe): recipe for recipe in recipes}.values())
