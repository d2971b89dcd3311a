"""Lists of records: filters, pages and order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ims.records.models import Image
from ims.records.selection import Position, Selection
from ims.records.store import Records

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LABELS = {"owner": "ada", "": "", 'a"b': "c", "$.x": "y", "größe": "=x=", "'": "''", "n": "1", "null": "null"}


@pytest.fixture
def images(records: Records) -> list[Image]:
    """Six images, two at each of three times."""
    names = ("a", "b", "a", "b", "a", "a")
    made = [
        Image(
            id=f"{number}",
            name=name,
            created=BEGIN + timedelta(hours=number // 2),
            arch=arch,
            labels=labels,
            damage="gone" if number == 3 else None,
        )
        for number, (name, arch, labels) in enumerate(
            zip(names, ["x86_64", "aarch64"] * 3, [{}, LABELS, {"owner": "bob"}, {}, {"ada": "owner"}, {}], strict=True)
        )
    ]
    return [records.add(image) for image in made]


SELECTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "all": ({}, "012345"),
    "name": ({"name": "a"}, "0245"),
    "name in another case": ({"name": "A"}, ""),
    "architecture": ({"arch": "aarch64"}, "135"),
    "both": ({"arch": "aarch64", "name": "a"}, "5"),
    "after": ({"created_after": BEGIN}, "2345"),
    "before": ({"created_before": BEGIN + timedelta(hours=1)}, "01"),
    "between": ({"created_after": BEGIN, "created_before": BEGIN + timedelta(hours=2)}, "23"),
    "newest": ({"newest_first": True, "limit": 2}, "54"),
    "two labels": ({"labels": (("owner", "ada"), ("n", "1"))}, "1"),
    "labels of two images": ({"labels": (("owner", "ada"), ("ada", "owner"))}, ""),
    "label with another value": ({"labels": (("owner", "ad"),)}, ""),
    "deleted": ({"deleted": True}, ""),
    "damaged": ({"damaged": True}, "3"),
}


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("name", SELECTIONS)
def test_selection(records: Records, name: str) -> None:
    """A record must match every filter."""
    given, expected = SELECTIONS[name]
    assert "".join(image.id for image in records.list(Image, Selection(**given))) == expected


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("key", LABELS)
def test_label_with_special_characters(records: Records, key: str) -> None:
    """A key is a parameter of the query, never part of its text."""
    assert [image.id for image in records.list(Image, Selection(labels=((key, LABELS[key]),)))] == ["1"]


def position(record: Image) -> Position:
    """The position of a record in its list."""
    return Position(record.created, record.id)


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7])
def test_pages(records: Records, images: list[Image], size: int) -> None:
    """Together the pages are the whole list, even if a page ends between records of the same time."""
    found: list[Image] = []
    selection = Selection(limit=size)
    while part := records.list(Image, selection):
        found += part
        selection = replace(selection, after=position(part[-1]))
    assert [image.id for image in found] == [image.id for image in images]


def test_readers_and_writers_do_not_block_each_other(records: Records, images: list[Image]) -> None:
    """A record can be read while another transaction changes it."""

    def change(image: Image) -> None:
        assert len(records.list(Image)) == len(images)
        assert records.get(Image, image.id).name == "a"
        image.name = "changed"

    records.change(Image, "0", change)
    assert records.get(Image, "0").name == "changed"


@pytest.mark.usefixtures("images")
def test_unknown_packages(records: Records) -> None:
    """Images without a number of packages are counted if all other filters match, on every page."""
    records.add(Image(id="6", name="a", created=BEGIN, package_count=0))
    records.add(Image(id="7", name="a", created=BEGIN, package_count=None))
    assert records.count_unknown(Selection(package="x")) == 7
    assert (
        records.count_unknown(Selection(package="x", name="a", limit=1, after=position(records.get(Image, "7")))) == 5
    )
    assert records.count_unknown(Selection(package="x", versions=(), deleted=True)) == 0
