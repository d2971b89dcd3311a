"""The records in SQLite and in a real PostgreSQL: what holds for one holds for the other."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.orm import Session

from ims.errors import MissingError, UnavailableError
from ims.records.database import Database, migrate
from ims.records.models import Image, PublicKey, Recipe, Record, RecordType
from ims.records.store import IdTakenError, LinkTakenError, Records

LINK = {"type": "s3", "path": "s3://ims/recipes/1/recipe.tar.gz", "etag": "abc"}
NOBODY = "00000000-0000-0000-0000-000000000000"
MIGRATE = "import sys; from ims.records.database import Database; Database(sys.argv[1])"


def recipe(name: str = "recipe", path: str | None = None, **fields: Any) -> Recipe:
    """A recipe that is not kept yet."""
    link = {**LINK, "path": path} if path else None
    return Recipe(name=name, recipe_type="kiwi-ng", linux_distribution="sles15", link=link, link_path=path, **fields)


def fields_of(record: RecordType) -> dict[str, Any]:
    """What is kept of a record."""
    return {column.key: getattr(record, column.key) for column in inspect(type(record)).mapper.column_attrs}


KINDS = {
    "public key": lambda: PublicKey(name="Ünïcode 🔑", public_key="ssh-ed25519 AAAA\n"),
    "recipe": lambda: recipe(
        path="s3://ims/x", template_dictionary=[{"key": "A", "value": "ä"}], require_dkms=False, arch="aarch64"
    ),
    "recipe without a link": recipe,
    "image": lambda: Image(name="image", link=LINK, link_path=LINK["path"], job_id=NOBODY, labels={"a": "b"}),
    "image without anything": lambda: Image(name=""),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_record_is_kept_as_it_is(records: Records, make: Callable[[], Any]) -> None:
    """All its fields; id, time and what else has a default are given to it."""
    kept = records.add(make())
    assert fields_of(records.get(type(kept), kept.id)) == fields_of(kept)
    assert abs(datetime.now(UTC) - kept.created) < timedelta(minutes=1)
    assert kept.deleted is None
    assert len(kept.id) == 36


def test_defaults(records: Records) -> None:
    """Those of IMS."""
    kept, image = records.add(recipe()), records.add(Image(name="image"))
    assert (kept.arch, kept.require_dkms, kept.template_dictionary) == ("x86_64", True, [])
    assert (image.arch, image.labels, image.job_id) == ("x86_64", {}, None)


def test_list_is_in_order_of_making(records: Records) -> None:
    """Oldest first; where two were made at the same moment, by id: the order never changes."""
    now = datetime.now(UTC)
    ids = [f"{number:036d}" for number in range(5)]
    moments = [now, now - timedelta(hours=1), now, now + timedelta(microseconds=1), now]
    for identity, created in zip(ids, moments, strict=True):
        records.add(PublicKey(id=identity, name="", public_key="", created=created))
    assert [key.id for key in records.list(PublicKey)] == [ids[1], ids[0], ids[2], ids[4], ids[3]]
    assert records.list(Recipe) == []


def test_unknown_record_is_named(records: Records) -> None:
    """Reading, changing, deleting; an id of another kind is unknown too."""
    key = records.add(PublicKey(name="", public_key=""))
    attempts: list[Callable[[], Any]] = [
        lambda: records.get(Recipe, key.id),
        lambda: records.change(Recipe, key.id, lambda record: None),
        lambda: records.delete(Recipe, key.id),
    ]
    for attempt in attempts:
        with pytest.raises(MissingError, match=f"there is no recipe with the id {key.id}"):
            attempt()
    assert records.find(Recipe, key.id) is None


def test_change_is_kept(records: Records) -> None:
    """And returned; the rest stays."""
    kept = records.add(recipe(path="s3://ims/x"))

    def change(record: Recipe) -> None:
        record.arch = "aarch64"
        record.template_dictionary = [{"key": "A", "value": "B"}]

    changed = records.change(Recipe, kept.id, change)
    again = records.get(Recipe, kept.id)
    assert fields_of(changed) == fields_of(again)
    assert (again.arch, again.template_dictionary, again.link_path) == (
        "aarch64",
        [{"key": "A", "value": "B"}],
        "s3://ims/x",
    )


def test_change_that_fails_changes_nothing(records: Records) -> None:
    """Not half of it either."""
    kept = records.add(recipe())

    def change(record: Recipe) -> None:
        record.name = "other"
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  (raised here)
        records.change(Recipe, kept.id, change)
    assert records.get(Recipe, kept.id).name == "recipe"


def test_deleted_record_is_a_tombstone(records: Records) -> None:
    """It is not seen, not changed, not deleted again; only `find` shows it, with its time."""
    kept, other = records.add(recipe()), records.add(recipe())
    records.delete(Recipe, kept.id)
    assert [record.id for record in records.list(Recipe)] == [other.id]
    for attempt in (records.get, records.delete):
        with pytest.raises(MissingError):
            attempt(Recipe, kept.id)
    with pytest.raises(MissingError):
        records.change(Recipe, kept.id, lambda record: None)
    found = records.find(Recipe, kept.id)
    assert found is not None
    assert found.deleted is not None
    assert abs(datetime.now(UTC) - found.deleted) < timedelta(minutes=1)


def test_delete_all_is_of_one_kind(records: Records) -> None:
    """The others stay."""
    for number in range(3):
        records.add(recipe(path=f"s3://ims/{number}"))
    records.add(PublicKey(name="", public_key=""))
    records.delete_all(Recipe)
    assert records.list(Recipe) == []
    assert len(records.list(PublicKey)) == 1


def test_image_of_a_job(records: Records) -> None:
    """Found when it is deleted too: its job did make it."""
    made = records.add(Image(name="image", job_id=NOBODY))
    records.add(Image(name="other"))
    records.delete(Image, made.id)
    found = records.images_of_jobs([NOBODY, "another"])
    assert {job: image.id for job, image in found.items()} == {NOBODY: made.id}


# Links


def test_object_has_one_record(records: Records) -> None:
    """A second one is refused, by adding and by changing; the error names the object."""
    records.add(recipe(path="s3://ims/x"))
    other = records.add(recipe(path="s3://ims/y"))
    with pytest.raises(LinkTakenError, match="s3://ims/x is linked by another record"):
        records.add(recipe(path="s3://ims/x"))
    with pytest.raises(LinkTakenError, match="s3://ims/x is linked by another record"):
        records.change(Recipe, other.id, lambda record: setattr(record, "link_path", "s3://ims/x"))
    assert records.get(Recipe, other.id).link_path == "s3://ims/y"
    assert len(records.list(Recipe)) == 2


def test_record_may_keep_its_own_link(records: Records) -> None:
    """Its own is not another's."""
    kept = records.add(recipe(path="s3://ims/x"))
    records.change(Recipe, kept.id, lambda record: setattr(record, "link_path", "s3://ims/x"))


def test_object_of_a_deleted_record_is_free_again(records: Records) -> None:
    """As often as one likes."""
    for _ in range(3):
        records.delete(Recipe, records.add(recipe(path="s3://ims/x")).id)
    records.add(recipe(path="s3://ims/x"))


def test_records_without_an_object_do_not_collide(records: Records) -> None:
    """Nor do records of different kinds."""
    records.add(recipe())
    records.add(recipe())
    records.add(recipe(path="s3://ims/x"))
    records.add(Image(name="image", link_path="s3://ims/x"))


def test_another_conflict_is_not_taken_for_a_link(records: Records) -> None:
    """An id that is there already says nothing of links."""
    kept = records.add(Image(name="image"))
    with pytest.raises(IdTakenError, match=kept.id):
        records.add(Image(id=kept.id, name="other", link_path="s3://ims/x"))
    assert records.get(Image, kept.id).name == "image"


# Many at once


def test_no_change_of_many_writers_is_lost(records: Records) -> None:
    """Each reads, thinks, and writes: nobody else does in between."""
    kept = records.add(Image(name="image", labels={"count": "0"}))

    def count(record: Image) -> None:
        seen = int(record.labels["count"])
        time.sleep(0.001)
        record.labels = {"count": str(seen + 1)}

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(records.change, Image, kept.id, count) for _ in range(80)]:
            done.result()
    assert records.get(Image, kept.id).labels == {"count": "80"}


def test_one_of_many_gets_the_link(records: Records) -> None:
    """The others are told; readers are not in the way."""
    barrier = threading.Barrier(8)

    def add() -> bool:
        barrier.wait()
        records.list(Recipe)
        try:
            records.add(recipe(path="s3://ims/x"))
        except LinkTakenError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [done.result() for done in [pool.submit(add) for _ in range(8)]]
    assert sorted(won) == [False] * 7 + [True]
    assert len(records.list(Recipe)) == 1


# Times


@pytest.mark.parametrize("hours", [0, 2, -11])
def test_moment_is_kept_and_read_in_utc(records: Records, hours: int) -> None:
    """Whatever the time zone it is given in, and that of the server."""
    moment = datetime(2024, 2, 29, 23, 30, 15, 123456, tzinfo=timezone(timedelta(hours=hours)))
    kept = records.add(PublicKey(name="", public_key="", created=moment))
    read = records.get(PublicKey, kept.id).created
    assert read == moment
    assert read.utcoffset() == timedelta(0)


# The schema


def test_models_and_migrations_agree(database: Database) -> None:
    """A change of the models comes with a migration."""
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Record.metadata) == []


@pytest.mark.parametrize("address", ["sqlite:////no/such/folder/x.db", "postgresql://nobody@/x?host=/no/such/folder"])
def test_database_that_does_not_answer(address: str) -> None:
    """The error names it, and says that trying again may help."""
    with pytest.raises(UnavailableError, match="the database of the records does not answer"):
        Database(address)


def test_migrating_again_changes_nothing(url: str, records: Records) -> None:
    """Every start does."""
    kept = records.add(recipe())
    again = Database(url)
    migrate(again.engine)
    assert Records(again).get(Recipe, kept.id).name == "recipe"
    with again.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1
    again.engine.dispose()


def test_many_processes_may_migrate_at_once(url: str) -> None:
    """One does the work, the others wait for it."""
    command = [sys.executable, "-c", MIGRATE, url]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(process.communicate()[1], process.returncode) for process in started] == [("", 0)] * 4
    assert Records(Database(url)).list(Recipe) == []


def test_migration_that_fails_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are made in one transaction, in SQLite too."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with Session(engine) as session:
        session.execute(text("CREATE TABLE images (x INTEGER)"))  # in the way of the last table
        session.commit()
    with pytest.raises(Exception, match="images"):
        Database(url)
    assert inspect(engine).get_table_names() == ["images"]
    engine.dispose()
