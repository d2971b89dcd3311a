"""The audit log. Every test runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ims.errors import ImsError
from ims.records.audit import AuditFilter, AuditLog, actor
from ims.records.database import Database
from ims.records.models import AuditEntry, Image, PublicKey, Recipe
from ims.records.shells import Shells
from ims.records.store import LinkTakenError, Records
from tests.records.test_store import recipe


@pytest.fixture
def log(database: Database) -> Iterator[AuditLog]:
    """The log of that database, while ada makes the changes."""
    token = actor.set("ada")
    yield AuditLog(database)
    actor.reset(token)


def entries(log: AuditLog, **selected: Any) -> list[AuditEntry]:
    """The selected entries, oldest first."""
    return list(log.list(AuditFilter(**selected), 100))[::-1]


def actions(log: AuditLog, **selected: Any) -> list[tuple[str, str, str]]:
    """The user, the action and the name of each selected entry, oldest first."""
    return [(entry.who, entry.action, entry.name) for entry in entries(log, **selected)]


def test_life_of_an_image(records: Records, log: AuditLog) -> None:
    """Each change has an entry with the changed fields, a purge one with all."""
    image = records.add(Image(name="site", labels={"a": "b"}))
    actor.set("ben")
    records.change(Image, image.id, lambda found: setattr(found, "labels", {"a": "c"}))
    records.delete(Image, image.id)
    records.undelete(Image, image.id)
    records.delete(Image, image.id)
    records.begin_purge(Image, image.id, set())
    records.finish_purge(Image, image.id)
    found = entries(log)
    assert [entry.action for entry in found] == ["create", "change", "delete", "undelete", "delete", "purge"]
    assert [entry.who for entry in found] == ["ada", *["ben"] * 5]
    assert {(entry.kind, entry.record_id, entry.name) for entry in found} == {("image", image.id, "site")}
    created, changed, deleted, *_, purged = found
    assert created.before is None
    assert created.after is not None
    assert (created.after["metadata"], created.after["id"]) == ({"a": "b"}, image.id)
    assert (changed.before, changed.after) == ({"metadata": {"a": "b"}}, {"metadata": {"a": "c"}})
    assert deleted.before == {"deleted": None}
    assert purged.after is None
    assert purged.before is not None
    assert (purged.before["metadata"], purged.before["name"]) == ({"a": "c"}, "site")


def test_all_records_at_once(records: Records, log: AuditLog) -> None:
    """Each record has an entry; tombstones and records of other kinds have none."""
    for name in ("a", "b", "old"):
        records.add(recipe(name))
    records.add(PublicKey(name="key", public_key="ssh-ed25519 AAAA"))
    records.delete(Recipe, records.list(Recipe)[2].id)
    records.delete_all(Recipe)
    assert sorted(actions(log, action="delete")) == [("ada", "delete", name) for name in ("a", "b", "old")]
    records.undelete_all(Recipe)
    assert sorted(actions(log, action="undelete")) == [("ada", "undelete", name) for name in ("a", "b", "old")]


def test_only_what_happened(records: Records, log: AuditLog) -> None:
    """A change that fails, changes nothing, or only says when a plan checked the image has no entry."""
    image = records.add(Image(name="a", link_path="s3://b/1"))
    records.change(Image, image.id, lambda found: setattr(found, "checked", datetime.now(UTC)))
    records.change(Image, image.id, lambda found: setattr(found, "name", "a"))
    with pytest.raises(LinkTakenError):
        records.add(Image(name="b", link_path="s3://b/1"))
    with pytest.raises(ImsError):
        records.delete(Image, "unknown")
    assert actions(log) == [("ada", "create", "a")]


def test_shells(database: Database, log: AuditLog) -> None:
    """The operation that a user requests is logged."""
    shells, until = Shells(database), datetime.now(UTC)
    fields = {"name": "s", "jail": True, "host": "h", "port": 1, "command": "ssh", "fingerprint": "f", "until": until}
    shells.save("job", fields)
    shells.change("job", lambda shell: setattr(shell, "operation", "complete"))
    assert actions(log, kind="shell", record_id="job") == [("ada", "create", "s"), ("ada", "change", "s")]
    assert entries(log)[1].after == {"operation": "complete"}


def test_filters_and_pages(database: Database, log: AuditLog) -> None:
    """Entries are selected by each property; a page continues below the last entry."""
    for number in range(5):
        log.add("job", f"id-{number}", f"job-{number % 2}", "create" if number else "cancel", {"number": number})
    every = entries(log)
    assert [entry.after for entry in every] == [{"number": number} for number in range(5)]
    assert len(entries(log, name="job-1")) == 2
    assert actions(log, action="cancel") == [("ada", "cancel", "job-0")]
    assert entries(log, who="ben") == entries(log, kind="image") == []
    assert len(entries(log, since=every[2].created)) == 3
    assert len(entries(log, until=every[2].created)) == 2
    page = log.list(AuditFilter(below=every[3].id), 2)
    assert [entry.record_id for entry in page] == ["id-2", "id-1"]


def test_old_entries_are_removed(log: AuditLog) -> None:
    """Only those from before the given time."""
    log.add("job", "old", "x", "create")
    between = datetime.now(UTC)
    log.add("job", "new", "x", "create")
    assert log.has_older(between)
    assert log.remove_older(between)
    assert [entry.record_id for entry in entries(log)] == ["new"]
    assert not log.has_older(between - timedelta(days=1))
