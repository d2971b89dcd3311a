"""Holds: the reasons why a record may not be deleted. Deletion, retention and purging all ask here.

A hold is strict if nobody may override it: a running job uses the record. Any other hold stops only the clean-up, for
example the pin of an image: a user may still delete the image.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ims.errors import InputError
from ims.records.models import AnyRecord, Image, Recipe


class HeldError(InputError):
    """A strict hold is on the record."""


@dataclass(frozen=True)
class Hold:
    """One reason to keep a record, as a sentence; `hint` says what ends it."""

    reason: str
    hint: str
    strict: bool = False


@dataclass(frozen=True)
class Holds:
    """What was known about the use of records at one moment.

    `jobs` maps the id of each record in use, and the address of each object in use, to a running job. `source_recipes`
    are the ids of the recipes that images were built from, `source_images` the result of
    `ims.records.lineage.replay_sources`.
    """

    jobs: Mapping[str, str]
    source_recipes: Collection[str | None] = ()
    source_images: Collection[str | None] = ()

    def of(self, record: AnyRecord) -> list[Hold]:
        """Every hold on a record."""
        return [*self._jobs(record), *_pin(record), *self._images(record)]

    def strict(self, record: AnyRecord) -> list[Hold]:
        """The holds on a record that nobody may override."""
        return [hold for hold in self.of(record) if hold.strict]

    def check(self, records: Iterable[AnyRecord]) -> None:
        """Raises HeldError if one of the records has a strict hold."""
        for record in records:
            for hold in self.strict(record):
                raise HeldError(hold.reason, hold.hint)

    def _jobs(self, record: AnyRecord) -> Iterator[Hold]:
        """A job names a record by its id, and a playbook by the address of its object."""
        for name in (record.id, getattr(record, "link_path", None)):
            if name is not None and name in self.jobs:
                yield Hold(
                    f"the job {self.jobs[name]} is using {name}", "Wait until it ends, or cancel it", strict=True
                )

    def _images(self, record: AnyRecord) -> Iterator[Hold]:
        """Without its recipe, an image has no lineage. Without its source, a night finds no parent for an image."""
        if isinstance(record, Recipe) and record.id in self.source_recipes:
            yield Hold(f"images were built from the recipe {record.id}", "Purge these images first")
        if isinstance(record, Image) and record.id in self.source_images:
            yield Hold(f"nights repeat a customization of the image {record.id}", "Set nightly of its result to False")


def _pin(record: AnyRecord) -> Iterator[Hold]:
    if isinstance(record, Image) and record.pinned:
        yield Hold(f"the image {record.id} is pinned", "Unpin it first")


UNUSED = Holds({})
"""No record is in use."""
