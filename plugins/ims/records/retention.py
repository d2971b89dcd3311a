"""Retention: which images expire, and which tombstones are due for purging. Reads and changes no database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ims.records.holds import Holds
from ims.records.lineage import images_by_lineage
from ims.records.models import AnyRecord, Image, Recipe


@dataclass(frozen=True)
class Rules:
    """How long records are kept.

    If `keep_last` or `keep_days` is 0, no image expires. If `tombstone_days` is 0, no tombstone is purged.
    `all_images` applies the rules also to images that were not built from a recipe, as versions of their name.
    """

    keep_last: int
    keep_days: int
    tombstone_days: int
    all_images: bool = False


def expired_images(
    images: Iterable[Image], recipes: Iterable[Recipe], holds: Holds, now: datetime, rules: Rules
) -> list[Image]:
    """The images that are old, not among the last of their lineage, and without holds.

    `recipes` must include tombstones.
    """
    if not rules.keep_last or not rules.keep_days:
        return []
    living = (image for image in images if image.deleted is None)
    lineages = images_by_lineage(living, recipes, all_images=rules.all_images)
    superseded = (image for versions in lineages.values() for image in _superseded(versions, rules.keep_last))
    oldest_kept = now - timedelta(days=rules.keep_days)
    return [image for image in superseded if _last_current(image) < oldest_kept and not holds.of(image)]


def expired_tombstones(records: Iterable[AnyRecord], holds: Holds, now: datetime, rules: Rules) -> list[AnyRecord]:
    """The tombstones among `records` that are old enough to purge and without holds."""
    if not rules.tombstone_days:
        return []
    oldest_kept = now - timedelta(days=rules.tombstone_days)
    return [
        record
        for record in records
        if record.deleted is not None and record.deleted < oldest_kept and not holds.of(record)
    ]


def _superseded(versions: list[Image], keep_last: int) -> list[Image]:
    return sorted(versions, key=lambda image: (_last_current(image), image.id), reverse=True)[keep_last:]


def _last_current(image: Image) -> datetime:
    """When the image was last known to be what a build of its recipe would produce."""
    return max(image.created, image.checked or image.created)
