"""Turn a recipe folder into a registered recipe."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ims.cli.output import say
from ims.recipes import archive
from ims.recipes.litter import listed

if TYPE_CHECKING:
    from ims.client import ImsClient
    from ims.storage.objects import ObjectName, ObjectStore


def push(client: ImsClient, store: ObjectStore, folder: Path, **fields: Any) -> dict[str, Any]:
    """Pack a recipe folder, upload it under a new key and register it; returns the record. Raises ImsError."""
    from ims.settings import settings
    from ims.storage.objects import ObjectName

    place = ObjectName(settings().recipes_bucket, f"recipes/{uuid4()}/recipe.tar.gz")
    return push_to(place, client, store, folder, **fields)


def push_to(place: ObjectName, client: ImsClient, store: ObjectStore, folder: Path, **fields: Any) -> dict[str, Any]:
    """Pack a recipe folder, upload it to `place` and register it; returns the record. Raises ImsError."""
    with TemporaryDirectory() as temporary:
        packed = Path(temporary) / "recipe.tar.gz"
        left_out = archive.pack(folder, packed)
        stored = store.upload(packed, place, {})
    if left_out:
        say(f"left out: {listed(left_out)}")
    link = {"type": "s3", "path": str(place), "etag": stored.etag}
    return dict(client.create("recipes", recipe_type="kiwi-ng", link=link, **fields))
