"""Which objects in S3 are orphans, decided from a listing."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from ims.api.retention.orphans import Listing
from ims.settings import settings
from ims.storage.objects import ListedObject, ObjectName, UnfinishedUpload

YOUNGEST = datetime(2026, 6, 1, tzinfo=UTC)
OLD, YOUNG = YOUNGEST - timedelta(hours=1), YOUNGEST + timedelta(hours=1)
OWNER = "5c3b0d1e-1c6e-4f0a-9a53-0a7a3e1f1b57"
IMAGES, RECIPES = settings().images_bucket, settings().recipes_bucket


def stored(key: str, modified: datetime = OLD, bucket: str = IMAGES) -> ListedObject:
    """An object in a listing."""
    return ListedObject(ObjectName(bucket, key), 1, modified, "etag")


def orphans(*objects: ListedObject, referenced: Collection[str] = (), uploads: Collection[str] = ()) -> list[str]:
    """The keys of the orphans among the objects. There are young uploads to the keys `uploads`."""
    begun = [UnfinishedUpload(ObjectName(IMAGES, key), "id", YOUNG) for key in uploads]
    return [item.name.key for item in Listing(list(objects), begun).orphans(referenced, {OWNER}, YOUNGEST)]


def test_folder_without_an_owner() -> None:
    """All objects in the folder of a record that does not exist are orphans."""
    keys = [f"{uuid4()}/rootfs", f"{uuid4()}/manifest.yaml"]
    archive = f"recipes/{uuid4()}/recipe.tar.gz"
    assert orphans(*map(stored, keys), stored(archive, bucket=RECIPES)) == [*keys, archive]


@pytest.mark.parametrize("key", ["mine", "folder/rootfs", f"x{OWNER}/rootfs", OWNER, f"recipes/{OWNER}/rootfs"])
def test_keys_of_users(key: str) -> None:
    """An object outside of a folder that is named after a record is never an orphan."""
    assert orphans(stored(key)) == []


def test_folder_of_a_record() -> None:
    """The folder of a record is kept, whatever is in it."""
    assert orphans(stored(f"{OWNER}/rootfs")) == []


@pytest.mark.parametrize("other", ["referenced", "young", ".kept", "upload"])
def test_folder_is_kept_whole(other: str) -> None:
    """One referenced or young object, upload or mark keeps the whole folder, but no other folder."""
    folder, orphan = str(uuid4()), f"{uuid4()}/rootfs"
    beside = stored(f"{folder}/{other}", YOUNG if other == "young" else OLD)
    found = orphans(
        stored(f"{folder}/rootfs"),
        *([] if other == "upload" else [beside]),
        stored(orphan),
        referenced=["no address", f"s3://{IMAGES}/{folder}/referenced"] if other == "referenced" else [],
        uploads=[f"{folder}/upload"] if other == "upload" else [],
    )
    assert found == [orphan]


def test_abandoned_uploads() -> None:
    """Old uploads are abandoned, except those to the folder of a record."""
    begun = {f"{uuid4()}/rootfs": OLD, "mine": OLD, f"{uuid4()}/initrd": YOUNG, f"{OWNER}/rootfs": OLD}
    uploads = [UnfinishedUpload(ObjectName(IMAGES, key), key, time) for key, time in begun.items()]
    abandoned = Listing([], uploads).abandoned_uploads({OWNER}, YOUNGEST)
    assert [upload.id for upload in abandoned] == list(begun)[:2]
