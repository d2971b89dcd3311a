"""Turn a recipe folder into a registered recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ims.cli.output import say
from ims.errors import InputError
from ims.recipes import archive
from ims.recipes.litter import listed

if TYPE_CHECKING:
    from ims.client import ImsClient
    from ims.storage.objects import ObjectName, ObjectStore


def push(client: ImsClient, store: ObjectStore, folder: Path, **fields: Any) -> dict[str, Any]:
    """Pack a recipe folder, check it, upload it under a new key and register it; returns the record. Raises ImsError.

    If something is wrong with the recipe, all of it is printed, and nothing is uploaded.
    """
    from ims.settings import settings
    from ims.storage.objects import ObjectName

    place = ObjectName(settings().recipes_bucket, f"recipes/{uuid4()}/recipe.tar.gz")
    return push_to(place, client, store, folder, **fields)


def push_to(place: ObjectName, client: ImsClient, store: ObjectStore, folder: Path, **fields: Any) -> dict[str, Any]:
    """Like `push`, but uploads the archive to `place`."""
    with TemporaryDirectory() as temporary:
        packed = Path(temporary) / "recipe.tar.gz"
        left_out = archive.pack(folder, packed)
        _check(folder, packed, fields)
        stored = store.upload(packed, place, {})
    if left_out:
        say(f"left out: {listed(left_out)}")
    link = {"type": "s3", "path": str(place), "etag": stored.etag}
    return dict(client.create("recipes", recipe_type="kiwi-ng", link=link, **fields))


def _check(folder: Path, packed: Path, fields: Mapping[str, Any]) -> None:
    """Raises InputError if a build of such a recipe would fail. Prints the problems if there are several."""
    from ims.recipes.checking import Built, find_problems
    from ims.settings import settings

    limits = settings()
    problems = find_problems(
        folder,
        packed,
        {item["key"]: item["value"] for item in fields.get("template_dictionary") or ()},
        Built(fields.get("arch", "x86_64"), fields.get("profiles") or ()),
        max_bytes=limits.recipe_max_mib * 1024 * 1024,
        max_files=limits.recipe_max_files,
    )
    if len(problems) == 1:
        raise InputError(problems[0])
    for problem in problems:
        say(problem)
    if problems:
        raise InputError(f"the recipe has {len(problems)} problems", "Correct them, then push it again")
