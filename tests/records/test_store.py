"""Reading and writing records. Every test runs on SQLite and on PostgreSQL."""

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
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.orm import Session

from ims.errors import ConfigurationError, MissingError, UnavailableError
from ims.records.database import MIGRATIONS, Database, downgrade, migrate
from ims.records.models import Image, PublicKey, Recipe, Record, RecordType
from ims.records.rows import columns
from ims.records.selection import Selection
from ims.records.store import IdTakenError, LinkTakenError, Records

LINK = {"type": "s3", "path": "s3://ims/recipes/1/recipe.tar.gz", "etag": "abc"}
JOB_ID = "00000000-0000-0000-0000-000000000000"
MIGRATE = "import sys; from ims.records.database import Database; Database(sys.argv[1])"


def recipe(name: str = "recipe", path: str | None = None, **fields: Any) -> Recipe:
    """A recipe that is not in the database yet."""
    link = {**LINK, "path": path} if path else None
    return Recipe(name=name, recipe_type="kiwi-ng", linux_distribution="sles15", link=link, link_path=path, **fields)


def fields_of(record: RecordType) -> dict[str, Any]:
    """The values of all columns of a record."""
    return {column.key: getattr(record, column.key) for column in inspect(type(record)).mapper.column_attrs}


KINDS = {
    "public key": lambda: PublicKey(name="Ünïcode 🔑", public_key="ssh-ed25519 AAAA\n"),
    "recipe": lambda: recipe(
        path="s3://ims/x", template_dictionary=[{"key": "A", "value": "ä"}], require_dkms=False, arch="aarch64"
    ),
    "recipe without a link": recipe,
    "image": lambda: Image(name="image", link=LINK, link_path=LINK["path"], job_id=JOB_ID, labels={"a": "b"}),
    "image without anything": lambda: Image(name=""),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_add_stores_every_field(records: Records, make: Callable[[], Any]) -> None:
    """The id, the time of creation and other defaults are filled in."""
    kept = records.add(make())
    assert fields_of(records.get(type(kept), kept.id)) == fields_of(kept)
    assert abs(datetime.now(UTC) - kept.created) < timedelta(minutes=1)
    assert kept.deleted is None
    assert len(kept.id) == 36


def test_defaults(records: Records) -> None:
    """The defaults are those of IMS."""
    kept, image = records.add(recipe()), records.add(Image(name="image"))
    assert (kept.arch, kept.require_dkms, kept.template_dictionary) == ("x86_64", True, [])
    assert (image.arch, image.labels, image.job_id) == ("x86_64", {}, None)


def test_list_is_ordered_by_creation(records: Records) -> None:
    """Oldest first; records of the same time are ordered by id, so the order is stable."""
    now = datetime.now(UTC)
    ids = [f"{number:036d}" for number in range(5)]
    moments = [now, now - timedelta(hours=1), now, now + timedelta(microseconds=1), now]
    for identity, created in zip(ids, moments, strict=True):
        records.add(PublicKey(id=identity, name="", public_key="", created=created))
    assert [key.id for key in records.list(PublicKey)] == [ids[1], ids[0], ids[2], ids[4], ids[3]]
    assert records.list(Recipe) == []


def test_unknown_record_is_named(records: Records) -> None:
    """Every method names the unknown id. The id of another kind of record is unknown too."""
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


def test_change_is_stored(records: Records) -> None:
    """The changed record is returned; the other fields stay."""
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


def test_failed_change_is_rolled_back(records: Records) -> None:
    """An exception in the function undoes what it has changed so far."""
    kept = records.add(recipe())

    def change(record: Recipe) -> None:
        record.name = "other"
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  (raised here)
        records.change(Recipe, kept.id, change)
    assert records.get(Recipe, kept.id).name == "recipe"


def test_deleted_record_is_a_tombstone(records: Records) -> None:
    """Only `find` returns it, with the time of its deletion; other methods treat its id as unknown."""
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


def test_delete_all_deletes_one_kind(records: Records) -> None:
    """Records of other kinds stay."""
    for number in range(3):
        records.add(recipe(path=f"s3://ims/{number}"))
    records.add(PublicKey(name="", public_key=""))
    records.delete_all(Recipe)
    assert records.list(Recipe) == []
    assert len(records.list(PublicKey)) == 1


def test_images_of_jobs(records: Records) -> None:
    """A deleted image is still the result of its job."""
    made = records.add(Image(name="image", job_id=JOB_ID))
    records.add(Image(name="other"))
    records.delete(Image, made.id)
    found = records.images_of_jobs([JOB_ID, "another"])
    assert {job: image.id for job, image in found.items()} == {JOB_ID: made.id}


# Links


def test_two_records_cannot_link_one_object(records: Records) -> None:
    """Adding and changing a record both refuse it and name the object."""
    records.add(recipe(path="s3://ims/x"))
    other = records.add(recipe(path="s3://ims/y"))
    with pytest.raises(LinkTakenError, match="s3://ims/x is linked by another record"):
        records.add(recipe(path="s3://ims/x"))
    with pytest.raises(LinkTakenError, match="s3://ims/x is linked by another record"):
        records.change(Recipe, other.id, lambda record: setattr(record, "link_path", "s3://ims/x"))
    assert records.get(Recipe, other.id).link_path == "s3://ims/y"
    assert len(records.list(Recipe)) == 2


def test_record_may_keep_its_own_link(records: Records) -> None:
    """A record does not conflict with itself."""
    kept = records.add(recipe(path="s3://ims/x"))
    records.change(Recipe, kept.id, lambda record: setattr(record, "link_path", "s3://ims/x"))


def test_object_of_a_deleted_record_can_be_linked_again(records: Records) -> None:
    """Any number of tombstones may link the same object."""
    for _ in range(3):
        records.delete(Recipe, records.add(recipe(path="s3://ims/x")).id)
    records.add(recipe(path="s3://ims/x"))


def test_records_without_a_link_do_not_conflict(records: Records) -> None:
    """Records of different kinds do not conflict either."""
    records.add(recipe())
    records.add(recipe())
    records.add(recipe(path="s3://ims/x"))
    records.add(Image(name="image", link_path="s3://ims/x"))


def test_conflict_of_ids(records: Records) -> None:
    """It differs from a conflict of links."""
    kept = records.add(Image(name="image"))
    with pytest.raises(IdTakenError, match=kept.id):
        records.add(Image(id=kept.id, name="other", link_path="s3://ims/x"))
    assert records.get(Image, kept.id).name == "image"


# Many at once


def test_concurrent_changes_are_not_lost(records: Records) -> None:
    """No other change happens between the read and the write of one."""
    kept = records.add(Image(name="image", labels={"count": "0"}))

    def count(record: Image) -> None:
        seen = int(record.labels["count"])
        time.sleep(0.001)
        record.labels = {"count": str(seen + 1)}

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(records.change, Image, kept.id, count) for _ in range(80)]:
            done.result()
    assert records.get(Image, kept.id).labels == {"count": "80"}


def test_concurrent_links_of_one_object(records: Records) -> None:
    """Exactly one writer succeeds, the others get an error, and readers do not disturb them."""
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
def test_times_are_read_in_utc(records: Records, hours: int) -> None:
    """Neither the time zone of the value nor that of the server matters."""
    moment = datetime(2024, 2, 29, 23, 30, 15, 123456, tzinfo=timezone(timedelta(hours=hours)))
    kept = records.add(PublicKey(name="", public_key="", created=moment))
    read = records.get(PublicKey, kept.id).created
    assert read == moment
    assert read.utcoffset() == timedelta(0)


# The schema


def test_models_and_migrations_agree(database: Database) -> None:
    """Every change of the models needs a migration."""
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Record.metadata) == []


@pytest.mark.parametrize("address", ["sqlite:////no/such/folder/x.db", "postgresql://nobody@/x?host=/no/such/folder"])
def test_database_that_does_not_answer(address: str) -> None:
    """The error says that another try may help."""
    with pytest.raises(UnavailableError, match="the database of records does not answer"):
        Database(address)


def test_second_migration_changes_nothing(url: str, records: Records) -> None:
    """Every start of the service migrates the database."""
    kept = records.add(recipe())
    again = Database(url)
    migrate(again.engine)
    assert Records(again).get(Recipe, kept.id).name == "recipe"
    with again.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1
    again.engine.dispose()


def test_concurrent_migrations(url: str) -> None:
    """One process migrates, the others wait."""
    command = [sys.executable, "-c", MIGRATE, url]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(process.communicate()[1], process.returncode) for process in started] == [("", 0)] * 4
    assert Records(Database(url)).list(Recipe) == []


def test_failed_migration_is_rolled_back(url: str) -> None:
    """A migration is one transaction, in SQLite too."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with Session(engine) as session:
        session.execute(text("CREATE TABLE images (x INTEGER)"))  # conflicts with the last table
        session.commit()
    with pytest.raises(Exception, match="images"):
        Database(url)
    assert inspect(engine).get_table_names() == ["images"]
    engine.dispose()


def schema(engine: Engine) -> dict[str, Any]:
    """The columns and indexes of all tables."""
    found = inspect(engine)
    return {
        table: {
            "columns": {
                (column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(table)
            },
            "indexes": {(index["name"], tuple(index["column_names"])) for index in found.get_indexes(table)},
        }
        for table in found.get_table_names()
        if table != "alembic_version"
    }


def test_every_migration_back(url: str) -> None:
    """Each migration back leads to the schema before, keeps the records, and can be repeated forward."""
    database = Database(url)
    revisions = ScriptDirectory(str(MIGRATIONS)).walk_revisions()
    known = [revision.revision for revision in revisions][::-1]
    records = Records(database)
    kept = records.add(recipe(path="s3://ims/x")), records.add(Image(name="image", labels={"a": "b"}))
    schemas = {}
    for revision in known[::-1]:
        downgrade(url, revision)
        schemas[revision] = schema(database.engine)
    with database.engine.connect() as connection:
        for query, record in zip(("SELECT id FROM recipes", "SELECT id FROM images"), kept, strict=True):
            assert connection.execute(text(query)).scalars().all() == [record.id]
    downgrade(url, "base")
    assert schema(database.engine) == {}
    for revision in known:
        migrate(database.engine, revision)
        assert schema(database.engine) == schemas[revision], revision
    database.engine.dispose()


def test_later_version(url: str) -> None:
    """A database that a later version migrated is refused, with what to do."""
    database = Database(url)
    with database.session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.engine.dispose()
    with pytest.raises(ConfigurationError, match="a later version of the service has changed the database of records"):
        Database(url)


def test_newest_images(records: Records) -> None:
    """All pushes of a recipe share the newest image that is not deleted. Other architectures are other lineages."""
    older, newer = records.add(recipe("site")), records.add(recipe("site"))
    arm, unbuilt = records.add(recipe("site", arch="aarch64")), records.add(recipe("unbuilt"))
    now = datetime.now(UTC)
    ids = {}
    for number, source in enumerate((older.id, newer.id, older.id, arm.id, newer.id, None)):
        image = Image(name="image", source_recipe_id=source, created=now + timedelta(seconds=number))
        ids[number] = records.add(image).id
    records.delete(Image, ids[4])
    recipes = [older, newer, arm, unbuilt]
    expected = {older.id: ids[2], newer.id: ids[2], arm.id: ids[3]}
    assert {key: image.id for key, image in records.newest_images(recipes).items()} == expected
    assert {item.id: records.newest_image(item).id for item in recipes[:3]} == expected


def test_rows_have_the_values_of_records(records: Records) -> None:
    """A row has the columns of its record, and is found under the same conditions."""
    image = records.add(Image(name="image", labels={"ä": "b"}, kernels=["6.4"], changes=None, pinned=True))
    values = [getattr(records.get(Image, image.id), name) for name in columns(Image)]
    assert list(records.rows.get(Image, image.id)) == values
    assert [list(row) for row in records.rows.list(Image, Selection())] == [values]
    for identity, deleted in ((image.id, True), ("unknown", False), ("\0", False)):
        with pytest.raises(MissingError):
            records.rows.get(Image, identity, deleted=deleted)
    records.delete(Image, image.id)
    assert records.rows.get(Image, image.id, deleted=True)[columns(Image).index("id")] == image.id
    with pytest.raises(MissingError):
        records.rows.get(Image, image.id)
