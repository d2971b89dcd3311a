"""The checks of what a job refers to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast, get_args

import pytest

from ims.api.errors import UnusableError
from ims.api.http.schemas import Arch
from ims.api.runs.job_checks import check_job
from ims.params import CreateParams
from ims.records.database import Database
from ims.records.models import PublicKey, Recipe
from ims.records.store import Records
from ims.storage.objects import ObjectStore
from tests.api.offline import MemoryStore


@pytest.fixture
def runtime(request: pytest.FixtureRequest, configure: Callable[..., None]) -> None:
    """Sets the runtime for one test."""
    configure(runtime=request.param)


@pytest.mark.parametrize(
    ("runtime", "refused"), [("local", True), ("kubernetes", False)], indirect=["runtime"], ids=["local", "kubernetes"]
)
@pytest.mark.usefixtures("runtime")
def test_other_architecture(refused: bool, tmp_path: Path) -> None:
    """A single machine builds only for its own architecture; a cluster may have nodes of both."""
    records = Records(Database(f"sqlite:///{tmp_path / 'records.db'}"))
    key = records.add(PublicKey(name="key", public_key="ssh-ed25519 AAAA"))
    link = {"type": "s3", "path": "s3://ims/recipe.tar.gz", "etag": ""}
    store = MemoryStore()
    store.put(link["path"])
    found = []
    for arch in get_args(Arch):
        fields = {"recipe_type": "kiwi-ng", "linux_distribution": "sles15", "link": link, "arch": arch}
        recipe = records.add(Recipe(name=arch, link_path=arch, **fields))
        job = CreateParams(artifact_id=recipe.id, public_key_id=key.id, image_root_archive_name="image")
        try:
            check_job(job, records, cast("ObjectStore", store))
        except UnusableError as error:
            found.append(str(error))
    assert len(found) == (1 if refused else 0), found
