"""Replays: which customized images a night makes again, in which order, and the result of each.

Images that were not built from a recipe form a *line* with those of the same name and architecture, as recipes form a
lineage. The newest image of a line counts. The functions are pure: the tasks of a night look up what they work on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ims.errors import InputError
from ims.lineage import Lineage, lineage_of, lineage_of_image
from ims.nights import NightImage, PausedImage, RecipeState

MAX_IMAGES = 1000
MAX_DEPTH = 10
"""The most customizations between a recipe and an image."""

UNFINISHED = ("waiting", "building")


class ImageState(RecipeState):
    """The fields of an image that decide whether it is made again, from its record or from the API."""

    source_recipe_id: str | None = None
    source_image_id: str | None = None
    customization_digest: str | None = None


class Catalog:
    """The images and recipes that a night found. `images` and `recipes` come oldest first, `deleted` are tombstones."""

    def __init__(
        self, images: Collection[ImageState], deleted: Iterable[ImageState], recipes: Iterable[RecipeState]
    ) -> None:
        self._recipes = {recipe.id: recipe for recipe in recipes}
        self.images = {image.id: image for image in (*deleted, *images)}
        # An image without a link is not uploaded yet.
        self.newest = {self.line(image): image for image in images if image.link is not None}

    def line(self, image: ImageState) -> Lineage:
        """The line of an image, or the lineage of the recipe that it was built from."""
        return lineage_of_image(image, self._recipes)

    def parent_line(self, image: ImageState) -> Lineage | None:
        """The line of the image that was customized; None if that is unknown, because it was purged."""
        parent = self.images.get(image.source_image_id or "")
        return None if parent is None else self.line(parent)

    def parent(self, image: ImageState) -> ImageState | None:
        """The newest image of that line; None if it was deleted."""
        line = self.parent_line(image)
        return None if line is None else self.newest.get(line)

    def chain(self, image: ImageState) -> list[Lineage]:
        """The lines of the images that an image was made from, its own first, a recipe or an unknown image last.

        Raises InputError if the chain is too long, or if it comes back to the line of the image.
        """
        lines = [self.line(image)]
        found: ImageState | None = image
        while found is not None and (line := self.parent_line(found)) is not None:
            if line == lines[0]:
                raise InputError(f"it would be made from itself: {_names(lines)}", "Give each image a name of its own")
            if line in lines:
                break  # the images of that circle are skipped
            if len(lines) > MAX_DEPTH:
                raise InputError(f"more than {MAX_DEPTH} customizations follow each other: {_names(lines)}")
            lines.append(line)
            found = self.newest.get(line)
        return lines

    def lineages(self, recipes: Iterable[str]) -> set[Lineage]:
        """The lineages of the recipes with these ids."""
        return {lineage_of(self._recipes[identity]) for identity in recipes if identity in self._recipes}


def due_images(catalog: Catalog, recipes: Collection[str] = ()) -> list[NightImage]:
    """Returns the images whose customization may be repeated, parents first. With `recipes`, only what follows them.

    An image that cannot be ordered is skipped.
    """
    lineages = catalog.lineages(recipes)
    found: list[tuple[int, NightImage]] = []
    for image in catalog.newest.values():
        if not image.is_due or image.customization_digest is None:
            continue
        result = NightImage(source_id=image.id, name=image.name, failures=image.nightly_failures)
        try:
            chain = catalog.chain(image)
        except InputError as error:
            chain, result.outcome, result.reason = [], "skipped", str(error)
        if not recipes or (chain and chain[-1] in lineages):
            found.append((len(chain), result))
    found.sort(key=lambda item: item[0])
    return [result for _, result in found[:MAX_IMAGES]]


def paused_images(images: Iterable[ImageState]) -> list[PausedImage]:
    """Returns the images that nights skip because they failed too many nights in a row; `images` come oldest first."""
    newest = {lineage_of_image(image, {}): image for image in images if image.source_recipe_id is None}
    return [
        PausedImage(image_id=image.id, name=image.name, failures=image.nightly_failures)
        for image in newest.values()
        if image.is_paused
    ]


def obstacle(
    image: ImageState, catalog: Catalog, results: Iterable[NightImage], failed: Mapping[Lineage, str]
) -> str | None:
    """Why an image is not made again, whatever changed; None if nothing prevents it.

    `failed` are the names of the recipes that this night could not build, by their lineages.
    """
    line = catalog.parent_line(image)
    if line is None or catalog.newest.get(line) is None:
        return "its parent was deleted"
    if line in failed:
        return f"its parent was not built: the recipe {failed[line]} failed"
    for result in results:
        parent = catalog.images.get(result.source_id)
        if result.outcome in ("failed", "skipped") and parent is not None and catalog.line(parent) == line:
            return f"its parent was not built: {result.name} {result.outcome}"
    return None


def waits_for_parent(image: ImageState, catalog: Catalog, results: Iterable[NightImage]) -> bool:
    """Whether this night has not decided about the parent of an image yet."""
    line = catalog.parent_line(image)
    unfinished = (catalog.images.get(result.source_id) for result in results if result.outcome in UNFINISHED)
    return any(parent is not None and catalog.line(parent) == line for parent in unfinished)


def _names(lines: Iterable[Lineage]) -> str:
    return ", ".join(line[-2] if len(line) > 1 else line[0] for line in lines)
