"""Whether an image is still complete."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ims.errors import MissingError, UnavailableError
from ims.storage.manifest import Artifact, Link, Manifest
from ims.storage.objects import ObjectName, ObjectStore, StoredObject
from ims.storage.presence import find_damage

ROOTFS, KERNEL = "s3://images/1/rootfs", "s3://images/1/kernel"
MANIFEST = Manifest(
    version="1.0",
    artifacts=[
        Artifact(type="rootfs", md5="m1", link=Link(path=ROOTFS, etag="e1-2")),
        Artifact(type="kernel", md5="m2", link=Link(path=KERNEL, etag="e2")),
    ],
)
STORED = {ROOTFS: StoredObject(9, "e1-2", {"md5sum": "m1"}), KERNEL: StoredObject(9, "e2", {})}


class Store:
    """An S3 that knows only what it stores of objects."""

    def __init__(self, stored: dict[str, StoredObject]) -> None:
        self.stored = stored

    def stat(self, name: ObjectName) -> StoredObject:
        """What is stored of an object. Raises MissingError, or UnavailableError if nothing is stored."""
        if not self.stored:
            raise UnavailableError("S3 does not answer")
        if str(name) not in self.stored:
            raise MissingError(f"{name} does not exist")
        return self.stored[str(name)]


def damage(**changed: Any) -> str | None:
    """What is wrong with the image if the rootfs or the kernel is something else."""
    places = {"rootfs": ROOTFS, "kernel": KERNEL}
    stored = {**STORED, **{places[name]: value for name, value in changed.items()}}
    kept = {name: value for name, value in stored.items() if value is not None}
    return find_damage(cast("ObjectStore", Store(kept)), MANIFEST)


def test_complete() -> None:
    """All objects have the checksums of the manifest; an object without a label has none to compare."""
    assert damage() is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"rootfs": None}, f"{ROOTFS} cannot be read: {ROOTFS} does not exist"),
        ({"kernel": StoredObject(9, "e3", {})}, f"{KERNEL} was replaced: its ETag is e3, not e2"),
        ({"rootfs": StoredObject(9, "e1-2", {"md5sum": "m9"})}, f"{ROOTFS} was replaced: its MD5 is m9, not m1"),
    ],
    ids=["deleted", "another ETag", "another MD5"],
)
def test_damage(changed: dict[str, Any], reason: str) -> None:
    """The reason names the object."""
    assert damage(**changed) == reason


def test_outage() -> None:
    """An S3 that does not answer says nothing about the image."""
    with pytest.raises(UnavailableError):
        damage(rootfs=None, kernel=None)
