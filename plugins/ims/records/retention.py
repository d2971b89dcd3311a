"""Which images need not stay, and when what was deleted goes for ever. Nothing here reads or changes a record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ims.records.models import Image, PublicKey, Recipe

Lineage = tuple[str, ...]
"""What images are versions of: a recipe's name and processors, since pushing a recipe again makes a new record."""


@dataclass(frozen=True)
class Rules:
    """How long things stay. With `keep_last` or `keep_days` 0 all images do, with `tombstone_days` 0 all tombstones.

    `all_images` counts images too that were not built from a recipe, as versions of their name.
    """

    keep_last: int
    keep_days: int
    tombstone_days: int
    all_images: bool = False


def retired(
    images: Iterable[Image], recipes: Iterable[Recipe], used: Collection[str], now: datetime, rules: Rules
) -> list[Image]:
    """Of `images` those that are to be tombstones now: old, not among the last of their lineage, pinned nor used.

    `recipes` are all, tombstones too; `used` are ids that running jobs work with.
    """
    if not rules.keep_last or not rules.keep_days:
        return []
    names = {recipe.id: (recipe.name, recipe.arch) for recipe in recipes}
    lineages: dict[Lineage, list[Image]] = defaultdict(list)
    for image in images:
        if image.deleted is None and (lineage := _lineage(image, names, rules)) is not None:
            lineages[lineage].append(image)
    until = now - timedelta(days=rules.keep_days)
    old = (image for versions in lineages.values() for image in _older(versions, rules.keep_last))
    return [image for image in old if _current(image) < until and not image.pinned and image.id not in used]


def expired(
    tombstones: Iterable[Image | Recipe | PublicKey],
    images: Sequence[Image],
    used: Collection[str],
    now: datetime,
    rules: Rules,
) -> list[Image | Recipe | PublicKey]:
    """Of `tombstones` those that are to go for ever now.

    `images` are all, tombstones too. A recipe stays as long as one that was built from it: it says of what lineage
    that is. A pinned image stays although it was deleted, which deleting all does too.
    """
    if not rules.tombstone_days:
        return []
    sources = {image.source_recipe_id for image in images}
    until = now - timedelta(days=rules.tombstone_days)
    return [
        record
        for record in tombstones
        if record.deleted is not None
        and record.deleted < until
        and record.id not in used
        and not (isinstance(record, Recipe) and record.id in sources)
        and not (isinstance(record, Image) and record.pinned)
    ]


def _lineage(image: Image, names: dict[str, tuple[str, str]], rules: Rules) -> Lineage | None:
    """What the image is a version of; None if nothing says so."""
    if image.source_recipe_id is not None:
        return names.get(image.source_recipe_id, (image.source_recipe_id,))
    return ("", image.name, image.arch) if rules.all_images else None


def _older(versions: list[Image], keep_last: int) -> list[Image]:
    return sorted(versions, key=lambda image: (_current(image), image.id), reverse=True)[keep_last:]


def _current(image: Image) -> datetime:
    """When the image was last known to be what building its recipe makes."""
    return max(image.created, image.checked or image.created)
