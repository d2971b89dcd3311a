"""What the commands print for people and for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest
import yaml

from ims.cli.differences import difference_rows
from ims.cli.output import Format, choose, for_people, show_list, show_record

RECORD = {
    "id": "an-id",
    "created": "2026-11-01T10:00:00.123456+00:00",
    "link": {"path": "s3://a/b", "type": "s3", "etag": ""},
    "labels": {},
    "packages": ["bash", "vim"],
    "variables": [{"key": "A", "value": "1"}, {"key": "B", "value": "2"}],
    "reason": "",
    "pinned": False,
    "count": 0,
    "job_id": None,
}


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the local time zone to one that is not UTC."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def printed(capsys: pytest.CaptureFixture[str], show: Callable[[], None], chosen: Format | None = None) -> str:
    """Return what a function prints in a format."""

    def run() -> None:
        choose(chosen)
        assert for_people() is (chosen is None)
        show()

    copy_context().run(run)
    return capsys.readouterr().out


def test_record_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Empty fields are left out, lists have a line per item, and times are local."""
    assert printed(capsys, lambda: show_record(RECORD)).splitlines() == [
        "id         an-id",
        "created    2026-11-01 11:00:00",
        "link       path=s3://a/b type=s3",
        "packages   bash",
        "           vim",
        "variables  key=A value=1",
        "           key=B value=2",
        "pinned     False",
        "count      0",
    ]


def test_list_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """The columns are as wide as their widest cell. A missing field is an empty cell."""
    records: list[dict[str, Any]] = [
        {"id": "1", "job_type": "create"},
        {"id": "22", "job_type": None, "name": "\x1b[31mx\x07"},
    ]
    assert printed(capsys, lambda: show_list(records, ("id", "job_type", "name"))).splitlines() == [
        "ID  JOB TYPE  NAME",
        "1   create",
        "22            x\\x07",
    ]


def test_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Only the heading is printed."""
    assert printed(capsys, lambda: show_list([], ("id", "name"))) == "ID  NAME\n"


@pytest.mark.parametrize(("chosen", "load"), [(Format.JSON, json.loads), (Format.YAML, yaml.safe_load)])
def test_formats_for_programs(capsys: pytest.CaptureFixture[str], chosen: Format, load: Callable[[str], Any]) -> None:
    """Programs get the whole record, whatever the columns are."""
    assert load(printed(capsys, lambda: show_record(RECORD), chosen)) == RECORD
    assert load(printed(capsys, lambda: show_list([RECORD], ("id",)), chosen)) == [RECORD]


@pytest.mark.parametrize("text", ["2026", "2026-11-01T10:00:00 x", "not a time at all, but long", "9" * 20])
def test_text_that_is_no_time(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """It is shown as it is."""
    assert printed(capsys, lambda: show_record({"name": text})) == f"name  {text}\n"


def change(name: str, before: str | None, after: str | None) -> dict[str, Any]:
    """Return a difference of a package."""
    return {"name": name, "arch": "amd64", "before": before, "after": after}


def test_differences() -> None:
    """Each package and file has a row. Files beyond the first ones are counted."""
    found = {
        "packages": {
            "added": [change("a", None, "1")],
            "removed": [change("b", "1", None)],
            "changed": [change("c", "1", "2")],
        },
        "files": {
            "added": {"count": 3, "first": [{"path": "/a", "before": None, "after": 5}]},
            "removed": {"count": 0, "first": []},
            "changed": {"count": 1, "first": [{"path": "/b", "before": 1, "after": 2}]},
            "grown": [{"path": "/usr/lib/firmware", "size": 6}, {"path": "/etc", "size": -1}],
        },
        "rootfs": {"before": 10, "after": 20},
    }
    assert [tuple(row.values()) for row in difference_rows(found)] == [
        ("package added", "a (amd64)", None, "1"),
        ("package removed", "b (amd64)", "1", None),
        ("package changed", "c (amd64)", "1", "2"),
        ("file added", "/a", None, "5"),
        ("file added", "and 2 more", None, None),
        ("file changed", "/b", "1", "2"),
        ("folder grown", "/usr/lib/firmware", None, "+6"),
        ("folder shrunk", "/etc", None, "-1"),
        ("size", "rootfs", "10", "20"),
    ]


def test_unknown_differences() -> None:
    """Old images have no lists of packages and files."""
    rows = difference_rows({"packages": None, "files": None, "rootfs": None})
    assert [(row["what"], row["name"]) for row in rows] == [
        ("packages", "not known for both images"),
        ("files", "not known for both images"),
    ]
