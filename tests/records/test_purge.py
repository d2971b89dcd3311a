"""Undeleting tombstones, and purging them with their objects."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select

from ims.errors import ImsError, MissingError
from ims.records.database import Database
from ims.records.models import Image, ImageObject, PublicKey, Recipe
from ims.records.objects import ObjectReferences
from ims.records.store import LinkTakenError, PurgingError, Records


@pytest.fixture
def references(database: Database) -> ObjectReferences:
    """The references to objects in the database."""
    return ObjectReferences(database)


def image(path: str, *objects: str) -> Image:
    """An image that is not in the database yet."""
    link = {"path": path, "type": "s3", "etag": ""}
    return Image(name="image", link=link, link_path=path, objects=[ImageObject(path=item) for item in (path, *objects)])


def recipe(path: str) -> Recipe:
    """A recipe that is not in the database yet."""
    link = {"path": path, "type": "s3", "etag": ""}
    return Recipe(name="recipe", recipe_type="kiwi-ng", linux_distribution="sles15", link=link, link_path=path)


def add_deleted(records: Records, record: Any) -> Any:
    """Add a record and delete it; returns the tombstone."""
    kept = records.add(record)
    records.delete(type(kept), kept.id)
    return kept


def test_undelete_once(records: Records) -> None:
    """A tombstone can be undeleted; a record cannot."""
    kept = add_deleted(records, image("s3://b/1/manifest"))
    assert records.get(Image, kept.id, deleted=True).deleted is not None
    records.undelete(Image, kept.id)
    assert records.get(Image, kept.id).deleted is None
    with pytest.raises(MissingError, match="no deleted image"):
        records.undelete(Image, kept.id)


def test_undelete_all_or_none(records: Records) -> None:
    """If two records would link the same object, no record is undeleted."""
    kept = [add_deleted(records, recipe(f"s3://b/{number}")) for number in range(3)]
    other = records.add(recipe("s3://b/1"))
    with pytest.raises(LinkTakenError):
        records.undelete_all(Recipe)
    assert [item.id for item in records.list(Recipe)] == [other.id]
    records.delete(Recipe, other.id)
    with pytest.raises(LinkTakenError):
        records.undelete_all(Recipe)
    records.undelete(Recipe, other.id)
    assert [item.id for item in records.list(Recipe)] == [other.id]
    assert all(records.get(Recipe, item.id, deleted=True) for item in kept)


def test_finish_purge(records: Records, database: Database) -> None:
    """A tombstone goes with its references; living records stay, and an unknown id is ignored."""
    kept, living = add_deleted(records, image("s3://b/1/m", "s3://b/1/r")), records.add(image("s3://b/2/m"))
    for _time in range(2):
        for identity in (kept.id, living.id):
            records.finish_purge(Image, identity)
    assert records.find(Image, kept.id) is None
    assert records.get(Image, living.id).id == living.id
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(ImageObject)) == 1


NEEDED: dict[str, Callable[[Records], Any]] = {
    "by no record": lambda records: records.add(image("s3://b/2/m", "s3://b/2/r")),
    "by an image": lambda records: records.add(image("s3://b/2/m", "s3://b/1/r")),
    "by a deleted image": lambda records: add_deleted(records, image("s3://b/2/m", "s3://b/1/r")),
    "by a recipe": lambda records: records.add(recipe("s3://b/1/r")),
    "by a deleted recipe": lambda records: add_deleted(records, recipe("s3://b/1/r")),
}


@pytest.mark.parametrize("name", NEEDED)
def test_objects_to_remove(records: Records, references: ObjectReferences, name: str) -> None:
    """An object that another record needs is not removed."""
    kept = add_deleted(records, image("s3://b/1/m", "s3://b/1/r"))
    NEEDED[name](records)
    expected = ["s3://b/1/m", "s3://b/1/r"] if name == "by no record" else ["s3://b/1/m"]
    objects = references.of_image(kept)
    assert objects == {"s3://b/1/m", "s3://b/1/r"}
    assert references.exclusive_to(kept, objects) == expected
    assert records.begin_purge(Image, kept.id, objects) == expected


def test_last_of_two_purges_removes_the_object(records: Records) -> None:
    """Two records that are being purged do not keep a shared object for each other."""
    one, two = (add_deleted(records, image(f"s3://b/{number}/m", "s3://b/r")) for number in range(2))
    assert "s3://b/r" not in records.begin_purge(Image, one.id, {"s3://b/r"})
    assert records.begin_purge(Image, two.id, {"s3://b/r"}) == ["s3://b/r"]


def test_record_that_is_being_purged(records: Records) -> None:
    """It cannot be undeleted, alone or with others, and no new record can link its objects."""
    kept = add_deleted(records, image("s3://b/1/m", "s3://b/1/r"))
    records.begin_purge(Image, kept.id, {"s3://b/1/m", "s3://b/1/r"})
    with pytest.raises(PurgingError):
        records.undelete(Image, kept.id)
    records.undelete_all(Image)
    assert records.list(Image) == []
    new: list[Any] = [image("s3://b/1/m"), image("s3://b/2/m", "s3://b/1/r"), recipe("s3://b/1/r")]
    for record in new:
        with pytest.raises(LinkTakenError):
            records.add(record)
    records.finish_purge(Image, kept.id)
    records.add(image("s3://b/1/m"))


def test_purge_only_tombstones(records: Records) -> None:
    """A living record cannot be purged."""
    kept = records.add(image("s3://b/1/m"))
    with pytest.raises(MissingError):
        records.begin_purge(Image, kept.id, {"s3://b/1/m"})
    records.undelete_all(Image)
    assert not records.get(Image, kept.id).purging


def test_link_and_purge_at_the_same_time(records: Records) -> None:
    """If a purge and a new record race for an object, exactly one succeeds."""
    for number in range(12):
        path = f"s3://b/{number}"
        kept = add_deleted(records, recipe(path))
        barrier = threading.Barrier(2)

        def link(path: str = path, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            try:
                records.add(recipe(path))
            except LinkTakenError:
                return False
            return True

        def remove(path: str = path, barrier: threading.Barrier = barrier, identity: str = kept.id) -> Sequence[str]:
            barrier.wait()
            return records.begin_purge(Recipe, identity, {path})

        with ThreadPoolExecutor(2) as pool:
            linked, removed = pool.submit(link), pool.submit(remove)
            assert linked.result() != bool(removed.result())


@pytest.mark.parametrize("identity", ["", "\0", "a\0b", "ü", "x" * 5000])
def test_malformed_ids(records: Records, identity: str) -> None:
    """They are unknown ids, even if the database cannot store such text."""
    assert records.find(Image, identity) is None
    assert records.find_all(Image, [identity]) == {}
    calls: list[Callable[[], Any]] = [
        lambda: records.get(PublicKey, identity),
        lambda: records.undelete(PublicKey, identity),
        lambda: records.begin_purge(PublicKey, identity, set()),
    ]
    for call in calls:
        with pytest.raises(ImsError, match="there is no"):
            call()


def test_images_without_objects(records: Records, references: ObjectReferences) -> None:
    """Images that an early version registered are found until their objects are stored."""
    old, _ = records.add(image("s3://b/1/m")), records.add(Image(name="without a link"))
    records.change(Image, old.id, lambda record: setattr(record, "objects", []))
    assert [item.id for item in references.images_without_objects()] == [old.id]
    records.change(Image, old.id, lambda record: setattr(record, "objects", [ImageObject(path="s3://b/1/m")]))
    assert references.images_without_objects() == []
