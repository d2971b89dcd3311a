"""The checks of what a job refers to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast, get_args

import pytest

from ims.api.errors import UnusableError
from ims.api.http.schemas import Arch
from ims.api.runs.job_checks import check_job, check_references
from ims.params import CreateParams, CustomizeParams
from ims.records.database import Database
from ims.records.models import Image, PublicKey, Recipe
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


IMAGES = "s3://boot-images"
KEPT: dict[str, tuple[str, bool]] = {
    "of the image": ("{made}/playbook.tar.gz", True),
    "of an image without one": ("{parent}/playbook.tar.gz", False),
    "of no image": ("x/playbook.tar.gz", False),
    "another object of the image": ("{made}/rootfs", False),
    "another folder": ("{made}/x/playbook.tar.gz", False),
}


@pytest.mark.parametrize("name", KEPT)
def test_playbook_that_an_image_keeps(name: str, tmp_path: Path) -> None:
    """Beside the bucket of uploads, only playbooks that made an image can be run."""
    records = Records(Database(f"sqlite:///{tmp_path / 'records.db'}"))
    link = {"type": "s3", "path": f"{IMAGES}/parent/manifest.yaml", "etag": ""}
    parent = records.add(Image(name="parent", link=link, link_path=link["path"]))
    made = records.add(Image(name="made", customization_digest="0" * 64))
    template, allowed = KEPT[name]
    path = f"{IMAGES}/{template.format(made=made.id, parent=parent.id)}"
    store = MemoryStore()
    store.put(path)
    job = CustomizeParams(artifact_id=parent.id, image_root_archive_name="image", playbook=path)
    if allowed:
        check_references(job, records, cast("ObjectStore", store))
        return
    with pytest.raises(UnusableError, match="is not in the bucket"):
        check_references(job, records, cast("ObjectStore", store))


def test_digest_needs_a_playbook() -> None:
    """The digest of nothing is a mistake."""
    with pytest.raises(ValueError, match="needs a playbook"):
        CustomizeParams(artifact_id="a", image_root_archive_name="image", script="true", playbook_sha256="0" * 64)
