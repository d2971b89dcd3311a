"""Random sequences of events: the clean-up removes exactly what the rules allow, no more and no less."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from sqlalchemy import delete

from ims.records.database import Database
from ims.records.holds import Holds
from ims.records.lineage import replay_sources
from ims.records.models import Image, Recipe
from ims.records.retention import Rules, expired_images, expired_tombstones
from ims.records.selection import Selection
from ims.records.store import Records
from tests.fuzzing import examples

RULES = Rules(keep_last=2, keep_days=4, tombstone_days=3)
DAY = timedelta(days=1)
LINEAGES = ("x", "y")
NIGHTLY = ("base", "site")
Pick = st.integers(min_value=0)


@dataclass
class Known:
    """The model of a record. The lineage of a recipe is its name; an image has the lineage of its recipe."""

    lineage: str | None
    current: datetime
    recipe: str | None = None
    source: str | None = None
    pinned: bool = False
    deleted: datetime | None = None


class Machine(RuleBasedStateMachine):
    """Users, jobs and time act in any order, and the clean-up runs in between."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.records = Records(self.database)
        with self.database.session() as session:
            session.execute(delete(Image))
            session.execute(delete(Recipe))
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.recipes: dict[str, Known] = {}
        self.images: dict[str, Known] = {}
        self.used: set[str] = set()
        self.made = 0
        for lineage in LINEAGES:
            self.push(lineage)
        for number in range(6):
            self.build(number, 1)
            self.now += DAY

    def new_id(self) -> str:
        """A new id, the same at every replay."""
        self.made += 1
        return f"{self.made:06}"

    def pick(self, known: dict[str, Known], number: int, *, deleted: bool = False) -> str | None:
        """The id of a living record, or of a tombstone if `deleted`; None if there is none."""
        found = sorted(key for key, item in known.items() if (item.deleted is not None) is deleted)
        return found[number % len(found)] if found else None

    @rule(lineage=st.sampled_from(LINEAGES))
    def push_again(self, lineage: str) -> None:
        """A user pushes a recipe again."""
        self.push(lineage)

    def push(self, lineage: str) -> None:
        """Register a recipe."""
        record = self.records.add(
            Recipe(id=self.new_id(), name=lineage, recipe_type="kiwi-ng", linux_distribution="sles15", created=self.now)
        )
        self.recipes[record.id] = Known(lineage, self.now)

    def add(self, lineage: str | None, **source: Any) -> None:
        """Register an image."""
        record = self.records.add(Image(id=self.new_id(), name=lineage or "image", created=self.now, **source))
        known = Known(lineage, self.now, source.get("source_recipe_id"), source.get("source_image_id"))
        self.images[record.id] = known

    @rule(number=Pick, times=st.integers(1, 4))
    def build(self, number: int, times: int) -> None:
        """Jobs build images from a recipe."""
        if (source := self.pick(self.recipes, number)) is not None:
            for _time in range(times):
                self.add(self.recipes[source].lineage, source_recipe_id=source)

    @rule(number=Pick)
    def customize(self, number: int) -> None:
        """A user customizes an image."""
        if (source := self.pick(self.images, number)) is not None:
            self.add(None, source_image_id=source)

    @rule(number=Pick, lineage=st.sampled_from(NIGHTLY))
    def repeat(self, number: int, lineage: str) -> None:
        """A night customizes an image."""
        if (source := self.pick(self.images, number)) is not None:
            path = f"s3://boot-images/{self.made}"
            self.add(lineage, source_image_id=source, nightly=True, link_path=path, link={"path": path})

    @rule(number=Pick)
    def check(self, number: int) -> None:
        """A plan finds that an image is still current."""
        if (identity := self.pick(self.images, number)) is not None:
            self.records.change(Image, identity, lambda image: setattr(image, "checked", self.now))
            self.images[identity].current = self.now

    @rule(number=Pick, pinned=st.booleans())
    def pin(self, number: int, pinned: bool) -> None:
        """A user pins or unpins an image."""
        if (identity := self.pick(self.images, number)) is not None:
            self.records.change(Image, identity, lambda image: setattr(image, "pinned", pinned))
            self.images[identity].pinned = pinned

    def date_tombstone(self, kind: type[Any], known: dict[str, Known], identity: str) -> None:
        """Set the time of a deletion to the time of the machine."""
        self.records.change(kind, identity, lambda record: setattr(record, "deleted", self.now), deleted=True)
        known[identity].deleted = self.now

    @rule(number=Pick, of_images=st.booleans())
    def delete(self, number: int, of_images: bool) -> None:
        """A user deletes a record."""
        kind, known = self.kind(of_images)
        if (identity := self.pick(known, number)) is not None:
            self.records.delete(kind, identity)
            self.date_tombstone(kind, known, identity)

    @rule(number=Pick, of_images=st.booleans())
    def undelete(self, number: int, of_images: bool) -> None:
        """A user undeletes a record."""
        kind, known = self.kind(of_images)
        if (identity := self.pick(known, number, deleted=True)) is not None:
            self.records.undelete(kind, identity)
            known[identity].deleted = None

    def kind(self, of_images: bool) -> tuple[type[Any], dict[str, Known]]:
        """The class and the models of one kind of record."""
        return (Image, self.images) if of_images else (Recipe, self.recipes)

    @rule(number=Pick, of_images=st.booleans())
    def start_job(self, number: int, of_images: bool) -> None:
        """A job starts to use a record."""
        if (identity := self.pick(self.kind(of_images)[1], number)) is not None:
            self.used.add(identity)

    @rule(number=Pick, of_images=st.booleans(), days=st.integers(4, 10))
    def delete_under_a_job(self, number: int, of_images: bool, days: int) -> None:
        """A user deletes a record that a job uses for days."""
        kind, known = self.kind(of_images)
        # Of recipes, only those without images: nothing but the job holds them.
        free = set(known) - {item.recipe for item in self.images.values()}
        if (identity := self.pick({key: known[key] for key in sorted(free)}, number)) is not None:
            self.used.add(identity)
            self.records.delete(kind, identity)
            self.date_tombstone(kind, known, identity)
            self.wait(24 * days)

    @rule(number=Pick, days=st.integers(5, 10))
    def work_with_an_old_one(self, number: int, days: int) -> None:
        """A job uses an image for days while newer images are built."""
        if (identity := self.pick(self.images, number)) is not None:
            self.used.add(identity)
            self.now += days * DAY
            for source in [key for key, item in self.recipes.items() if item.deleted is None]:
                self.build(sorted(self.recipes).index(source), 2)
            self.clean_up()

    @precondition(lambda self: self.used)
    @rule(number=Pick)
    def end_job(self, number: int) -> None:
        """A job ends."""
        self.used.remove(sorted(self.used)[number % len(self.used)])

    @rule(hours=st.integers(1, 240))
    def wait(self, hours: int) -> None:
        """Time passes, and then the clean-up runs."""
        self.now += timedelta(hours=hours)
        self.clean_up()

    def clean_up(self) -> None:
        """Run the clean-up and compare what is left with the rules."""
        recipes, images = self.all(Recipe), self.all(Image)
        sources = {image.source_recipe_id for image in images}
        holds = Holds(dict.fromkeys(self.used, "job"), sources, replay_sources(images))
        to_expire = expired_images(images, recipes, holds, self.now, RULES)
        to_purge = expired_tombstones([*recipes, *images], holds, self.now, RULES)
        must_live, must_exist = self.must_live(), self.must_exist()
        for image in to_expire:
            assert self.records.expire(image.id)
            self.date_tombstone(Image, self.images, image.id)
        for record in to_purge:
            kind: type[Any] = type(record)
            self.records.begin_purge(kind, record.id, set())
            self.records.finish_purge(kind, record.id)
        assert {image.id for image in self.records.list(Image)} == must_live
        assert {record.id for kind in (Recipe, Image) for record in self.all(kind)} == must_exist
        for known in (self.recipes, self.images):
            for identity in set(known) - must_exist:
                del known[identity]

    def all(self, kind: type[Any]) -> list[Any]:
        """The records and the tombstones of a kind."""
        return [*self.records.list(kind), *self.records.list(kind, Selection(deleted=True))]

    def replayed(self) -> set[str | None]:
        """The sources of the newest nightly images."""
        living = {key: item for key, item in self.images.items() if item.deleted is None}
        newest = (max((key for key, item in living.items() if item.lineage == name), default="") for name in NIGHTLY)
        return {living[key].source for key in newest if key}

    def must_live(self) -> set[str]:
        """The images that must not expire."""
        replayed = self.replayed()
        living = {key: item for key, item in self.images.items() if item.deleted is None}
        newer: dict[str, int] = defaultdict(int)
        for key, item in living.items():
            same = [other for other in living if living[other].lineage == item.lineage and other != key]
            newer[key] = sum((living[other].current, other) > (item.current, key) for other in same)
        return {
            key
            for key, item in living.items()
            if item.lineage is None
            or item.pinned
            or key in self.used
            or key in replayed
            or self.now - item.current <= RULES.keep_days * DAY
            or newer[key] < RULES.keep_last
        }

    def must_exist(self) -> set[str]:
        """The records that must still exist, as records or as tombstones."""
        needed = {item.recipe for item in self.images.values()} | self.replayed()
        return {
            key
            for known in (self.recipes, self.images)
            for key, item in known.items()
            if item.deleted is None
            or self.now - item.deleted <= RULES.tombstone_days * DAY
            or item.pinned
            or key in self.used
            or key in needed
        }


@pytest.mark.hypothesis
def test_retention_after_any_sequence_of_events(tmp_path: Path) -> None:
    """Hypothesis chooses the events and their order."""
    Machine.database = Database(f"sqlite:///{tmp_path / 'records.db'}")
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=examples(50), stateful_step_count=30, deadline=None)
    )
    Machine.database.engine.dispose()
