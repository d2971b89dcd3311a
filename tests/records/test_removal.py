"""Tombstones that come back, or go with their objects."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select

from ims.errors import ImsError, MissingError
from ims.records.database import Database
from ims.records.models import Image, ImageObject, PublicKey, Recipe
from ims.records.removal import Removals
from ims.records.store import LinkTakenError, PurgingError, Records


@pytest.fixture
def removals(database: Database) -> Removals:
    """The database's tombstones."""
    return Removals(database)


def image(path: str, *objects: str) -> Image:
    """An image that is not kept yet."""
    link = {"path": path, "type": "s3", "etag": ""}
    return Image(name="image", link=link, link_path=path, objects=[ImageObject(path=item) for item in (path, *objects)])


def recipe(path: str) -> Recipe:
    """A recipe that is not kept yet."""
    link = {"path": path, "type": "s3", "etag": ""}
    return Recipe(name="recipe", recipe_type="kiwi-ng", linux_distribution="sles15", link=link, link_path=path)


def buried(records: Records, record: Any) -> Any:
    """A tombstone."""
    kept = records.add(record)
    records.delete(type(kept), kept.id)
    return kept


def test_undelete(records: Records) -> None:
    """Only what was deleted, and once."""
    kept = buried(records, image("s3://b/1/manifest"))
    assert records.get(Image, kept.id, deleted=True).deleted is not None
    records.undelete(Image, kept.id)
    assert records.get(Image, kept.id).deleted is None
    with pytest.raises(MissingError, match="no deleted image"):
        records.undelete(Image, kept.id)


def test_undelete_all(records: Records) -> None:
    """All or none: where one's link is another's by now, nothing is changed."""
    kept = [buried(records, recipe(f"s3://b/{number}")) for number in range(3)]
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


def test_forget(records: Records, removals: Removals, database: Database) -> None:
    """A tombstone and what is known of its objects; what lives stays, what is gone is no error."""
    kept, living = buried(records, image("s3://b/1/m", "s3://b/1/r")), records.add(image("s3://b/2/m"))
    for _time in range(2):
        for identity in (kept.id, living.id):
            removals.forget(Image, identity)
    assert records.find(Image, kept.id) is None
    assert records.get(Image, living.id).id == living.id
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(ImageObject)) == 1


NEEDED: dict[str, Callable[[Records], Any]] = {
    "by nobody": lambda records: records.add(image("s3://b/2/m", "s3://b/2/r")),
    "by an image": lambda records: records.add(image("s3://b/2/m", "s3://b/1/r")),
    "by a deleted image": lambda records: buried(records, image("s3://b/2/m", "s3://b/1/r")),
    "by a recipe": lambda records: records.add(recipe("s3://b/1/r")),
    "by a deleted recipe": lambda records: buried(records, recipe("s3://b/1/r")),
}


@pytest.mark.parametrize("name", NEEDED)
def test_what_goes(records: Records, removals: Removals, name: str) -> None:
    """What another record needs stays."""
    kept = buried(records, image("s3://b/1/m", "s3://b/1/r"))
    NEEDED[name](records)
    expected = ["s3://b/1/m", "s3://b/1/r"] if name == "by nobody" else ["s3://b/1/m"]
    objects = removals.objects(kept)
    assert objects == {"s3://b/1/m", "s3://b/1/r"}
    assert removals.unneeded(kept, objects) == expected
    assert removals.begin_purge(Image, kept.id, objects) == expected


def test_last_of_two_takes_the_object(records: Records, removals: Removals) -> None:
    """Two that are being removed do not keep it for each other."""
    one, two = (buried(records, image(f"s3://b/{number}/m", "s3://b/r")) for number in range(2))
    assert "s3://b/r" not in removals.begin_purge(Image, one.id, {"s3://b/r"})
    assert removals.begin_purge(Image, two.id, {"s3://b/r"}) == ["s3://b/r"]


def test_being_removed(records: Records, removals: Removals) -> None:
    """It does not come back, alone or with others, and nothing new can link its objects."""
    kept = buried(records, image("s3://b/1/m", "s3://b/1/r"))
    removals.begin_purge(Image, kept.id, {"s3://b/1/m", "s3://b/1/r"})
    with pytest.raises(PurgingError):
        records.undelete(Image, kept.id)
    records.undelete_all(Image)
    assert records.list(Image) == []
    new: list[Any] = [image("s3://b/1/m"), image("s3://b/2/m", "s3://b/1/r"), recipe("s3://b/1/r")]
    for record in new:
        with pytest.raises(LinkTakenError):
            records.add(record)
    removals.forget(Image, kept.id)
    records.add(image("s3://b/1/m"))


def test_only_tombstones(records: Records, removals: Removals) -> None:
    """What lives is not removed."""
    kept = records.add(image("s3://b/1/m"))
    with pytest.raises(MissingError):
        removals.begin_purge(Image, kept.id, {"s3://b/1/m"})
    records.undelete_all(Image)
    assert not records.get(Image, kept.id).purging


def test_link_or_removal(records: Records, removals: Removals) -> None:
    """Of a removal and a new record for the same object at the same moment one gives way."""
    for number in range(12):
        path = f"s3://b/{number}"
        kept = buried(records, recipe(path))
        barrier = threading.Barrier(2)

        def link(path: str = path, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            try:
                records.add(recipe(path))
            except LinkTakenError:
                return False
            return True

        def remove(path: str = path, barrier: threading.Barrier = barrier, identity: str = kept.id) -> list[str]:
            barrier.wait()
            return removals.begin_purge(Recipe, identity, {path})

        with ThreadPoolExecutor(2) as pool:
            linked, removed = pool.submit(link), pool.submit(remove)
            assert linked.result() != bool(removed.result())


@pytest.mark.parametrize("identity", ["", "\0", "a\0b", "ü", "x" * 5000])
def test_ids_that_cannot_be(records: Records, removals: Removals, identity: str) -> None:
    """They are unknown, whatever the database makes of such text."""
    assert records.find(Image, identity) is None
    assert records.find_all(Image, [identity]) == {}
    calls: list[Callable[[], Any]] = [
        lambda: records.get(PublicKey, identity),
        lambda: records.undelete(PublicKey, identity),
        lambda: removals.begin_purge(PublicKey, identity, set()),
    ]
    for call in calls:
        with pytest.raises(ImsError, match="there is no"):
            call()


def test_images_of_before(records: Records, removals: Removals) -> None:
    """Those whose objects nobody remembered are found, until they are."""
    old, _ = records.add(image("s3://b/1/m")), records.add(Image(name="without a link"))
    records.change(Image, old.id, lambda record: setattr(record, "objects", []))
    assert [item.id for item in removals.images_of_unknown_objects()] == [old.id]
    records.change(Image, old.id, lambda record: setattr(record, "objects", [ImageObject(path="s3://b/1/m")]))
    assert removals.images_of_unknown_objects() == []
