"""The documents of records, which are written without their models."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import Context, copy_context
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from ims.api.catalog.documents import Documents
from ims.api.catalog.images import DeletedImageOut, ImageOut
from ims.api.catalog.public_keys import DeletedPublicKeyOut, PublicKeyOut
from ims.api.catalog.recipes import DeletedRecipeOut, RecipeOut
from ims.api.http import times
from ims.api.http.schemas import RecordOut
from ims.images.changes import Changes, Names
from ims.records.database import Database
from ims.records.models import Image, PublicKey, Recipe
from ims.records.selection import Selection
from ims.records.store import Records

TEXT = 'größer "\\" </script> \u2028 \x1f \U0001f600'
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 120000, tzinfo=UTC)
NAMES = Names(count=21, first=["/etc/", TEXT])
CHANGES = Changes(
    files_added=NAMES,
    files_changed=NAMES,
    files_removed=NAMES,
    packages_added=NAMES,
    packages_removed=None,
    packages_upgraded=None,
)
LINK = {"path": f"s3://ims/{TEXT}", "type": "s3", "etag": TEXT}
COMMON: dict[str, Any] = {"name": TEXT, "created": MOMENT}
LINKED: dict[str, Any] = {**COMMON, "link": LINK, "link_path": LINK["path"], "arch": "aarch64"}
RECIPE = {"name": "a", "recipe_type": "kiwi-ng", "linux_distribution": "sles15"}
FILES = dict.fromkeys(("kernel_file_name", "initrd_file_name", "kernel_parameters_file_name"), TEXT)
RECORDS: tuple[Any, ...] = (
    Image(name="image", created=datetime(2026, 1, 1, tzinfo=UTC)),
    Image(
        **LINKED,
        job_id="1",
        labels={TEXT: TEXT, "": ""},
        source_image_id="2",
        changes=CHANGES.model_dump(),
        source_recipe_id="3",
        checked=MOMENT,
        pinned=True,
        customization_digest="0" * 64,
        nightly=True,
        nightly_failures=3,
        kernels=["6.4.0", TEXT],
        package_count=0,
    ),
    Recipe(**RECIPE, created=datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
    Recipe(
        **{**RECIPE, **LINKED, **FILES},
        template_dictionary=[{"key": "A", "value": TEXT}],
        require_dkms=False,
        nightly=True,
        nightly_failures=1,
        profiles=["p", TEXT],
    ),
    PublicKey(**COMMON, public_key=TEXT),
)
MODELS: tuple[tuple[Any, type[RecordOut], type[RecordOut]], ...] = (
    (Image, ImageOut, DeletedImageOut),
    (Recipe, RecipeOut, DeletedRecipeOut),
    (PublicKey, PublicKeyOut, DeletedPublicKeyOut),
)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Records]:
    """The records above, and each of them as a tombstone."""
    database = Database(f"sqlite:///{Path(tmp_path_factory.mktemp('records')) / 'records.db'}")
    made = Records(database)
    for record in RECORDS:
        made.add(record)
    yield made
    database.engine.dispose()


def as_version_2() -> Context:
    """The context of a request to version 2."""
    context = copy_context()
    coroutine = times.write_times_as_ims()
    with pytest.raises(StopIteration):
        context.run(coroutine.send, None)
    return context


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("kind", range(len(MODELS)))
def test_documents_are_those_of_the_models(records: Records, kind: int, deleted: bool, version: int) -> None:
    """A document is, byte for byte, what the model makes of the record."""
    record, *models = MODELS[kind]
    out = models[deleted]
    if deleted:
        records.delete_all(record)
    try:
        selection = Selection(deleted=deleted)
        expected, context = records.list(record, selection), as_version_2() if version == 2 else copy_context()
        adapter: TypeAdapter[list[Any]] = TypeAdapter(list[out])  # type: ignore[valid-type]
        written = context.run(Documents(record, out).write, records.rows.list(record, selection))
        assert len(expected) > 0
        assert written == context.run(lambda: adapter.dump_json(adapter.validate_python(expected)))
    finally:
        records.undelete_all(record)
