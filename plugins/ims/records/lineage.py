"""The lineages of records: images belong to the lineage of the recipe that they were built from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from sqlalchemy import Select, func, select

from ims import lineage as origin
from ims.lineage import Lineage
from ims.records.models import Image, Recipe


def lineage_of_image(image: Image, recipes: Mapping[str, Recipe], *, all_images: bool = False) -> Lineage | None:
    """The lineage that an image belongs to; None if it was not built from a recipe.

    Images that were not built from a recipe form a lineage with those of the same name, if nights make them again
    or with `all_images`.
    """
    is_counted = image.source_recipe_id is not None or all_images or image.nightly
    return origin.lineage_of_image(image, recipes) if is_counted else None


def images_by_lineage(
    images: Iterable[Image], recipes: Iterable[Recipe], *, all_images: bool = False
) -> dict[Lineage, list[Image]]:
    """Groups images by lineage and leaves out those that have none. `recipes` must include tombstones."""
    known = {recipe.id: recipe for recipe in recipes}
    lineages: dict[Lineage, list[Image]] = defaultdict(list)
    for image in images:
        if (lineage := lineage_of_image(image, known, all_images=all_images)) is not None:
            lineages[lineage].append(image)
    return lineages


def replay_sources(images: Iterable[Image]) -> set[str | None]:
    """The ids of the images whose customizations nights repeat: only these tell which parent to follow.

    Only the newest image of each name counts. After it was made again from a newer parent, its old parent is free.
    """
    living = [image for image in images if image.deleted is None and image.link_path and image.source_recipe_id is None]
    living.sort(key=lambda image: (image.created, image.id))
    newest = {origin.lineage_of_image(image, {}): image for image in living}
    return {image.source_image_id for image in newest.values() if image.nightly}


def recipe_ids_of_lineage(recipe: Recipe) -> Select[str]:
    """A query for the ids of all recipes in the lineage of `recipe`, tombstones included."""
    return select(Recipe.id).where(Recipe.name == recipe.name, Recipe.arch == recipe.arch)


def newest_of_lineages() -> Select[Image, str, str]:
    """A query for the newest image of each lineage of recipes, with the name and the architecture of the recipes."""
    order = (Image.created.desc(), Image.id.desc())
    rank = func.row_number().over(partition_by=(Recipe.name, Recipe.arch), order_by=order)
    built = select(Image.id, Recipe.name, Recipe.arch, rank.label("rank")).join(
        Recipe, Image.source_recipe_id == Recipe.id
    )
    ranked = built.where(Image.deleted.is_(None)).subquery()
    newest = select(Image, ranked.c.name, ranked.c.arch).join(ranked, Image.id == ranked.c.id)
    return newest.where(ranked.c.rank == 1)
