"""Reading the objects of an image in a real S3, some of which are damaged."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ims.errors import UnavailableError
from ims.storage import scrub
from ims.storage.digests import digest_file
from ims.storage.manifest import Artifact, Link, write_manifest
from ims.storage.objects import ObjectName, ObjectStore
from ims.storage.scrub import Pace, damaged_objects
from tests.seaweedfs import EmbeddedS3, running

pytestmark = pytest.mark.system

BUCKETS = ("ims", "boot-images")
MANIFEST = ObjectName("boot-images", "1/manifest.yaml")
CONTENT = os.urandom(2_500_000)


@dataclass(frozen=True)
class Image:
    """An image with two objects."""

    s3: EmbeddedS3
    rootfs: ObjectName

    @property
    def store(self) -> ObjectStore:
        """S3, with the rights of the service."""
        return self.s3.store

    def damage(self, rate: int = 1 << 40) -> list[str]:
        """What is wrong with the objects."""
        return damaged_objects(self.store, MANIFEST, BUCKETS, Pace(rate))


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Image]:
    """An image in a real SeaweedFS."""
    monkeypatch.setattr(scrub, "PAUSE_SECONDS", 0.1)
    with running(tmp_path / "home") as s3:
        artifacts = []
        for kind, content in {"rootfs": CONTENT, "kernel": b"kernel"}.items():
            file = tmp_path / kind
            file.write_bytes(content)
            name = ObjectName("boot-images", f"1/{kind}")
            stored = s3.store.upload(file, name, {})
            link = Link(path=str(name), etag=stored.etag)
            artifacts.append(Artifact(type=kind, md5=digest_file(file).md5, link=link))
        s3.store.write_bytes(MANIFEST, write_manifest(artifacts).encode())
        yield Image(s3, ObjectName("boot-images", "1/rootfs"))


def test_whole_image(image: Image) -> None:
    """Nothing is wrong, and reading takes the time that the rate says."""
    begin = time.monotonic()
    assert image.damage(rate=2 * len(CONTENT)) == []
    assert time.monotonic() - begin > 0.4


def test_content_changed_on_the_disk(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 still reports the old size and checksums, but cannot read the object."""
    monkeypatch.setattr(scrub, "TRIES", 1)  # SeaweedFS tries for seconds each time
    for volume in (image.s3.settings.home / "s3").rglob("*.dat"):
        data = bytearray(volume.read_bytes())
        if (place := data.find(CONTENT[:1000])) >= 0:
            data[place + 500] ^= 1
            volume.write_bytes(data)
    (found,) = image.damage()
    assert str(image.rootfs) in found
    assert image.store.stat(image.rootfs).metadata["md5sum"]


def test_other_content_with_the_same_checksums_in_s3(image: Image) -> None:
    """The content itself counts, not what is stored beside it."""
    labels: Any = image.store.stat(image.rootfs).metadata
    changed = CONTENT[:-1] + b"!"
    image.store.client.put_object(Bucket=image.rootfs.bucket, Key=image.rootfs.key, Body=changed, Metadata=labels)
    text = image.store.read_bytes(MANIFEST, 100_000).decode()
    image.store.write_bytes(MANIFEST, text.replace('"etag":"', '"unused":"').encode())
    (found,) = image.damage()
    assert found.startswith(f"{image.rootfs} is damaged: its sha256 is ")


def test_replaced_object(image: Image) -> None:
    """An object that somebody wrote again is not that of the manifest."""
    image.store.write_bytes(image.rootfs, b"other")
    (found,) = image.damage()
    assert found.startswith(f"{image.rootfs} was replaced: its ETag is ")


def test_missing_objects(image: Image) -> None:
    """Each is named. Without the manifest, the others are unknown."""
    image.store.delete(image.rootfs)
    assert image.damage() == [f"{image.rootfs} does not exist in S3"]
    image.store.delete(MANIFEST)
    assert image.damage() == [f"{MANIFEST} does not exist in S3"]


def test_manifest_of_an_attacker(image: Image) -> None:
    """Objects of other buckets are not read."""
    elsewhere = Artifact(type="rootfs", link=Link(path="s3://other/key"))
    image.store.write_bytes(MANIFEST, write_manifest([elsewhere]).encode())
    assert image.damage() == ["s3://other/key is in the bucket other"]


def test_s3_is_away(image: Image) -> None:
    """Then nothing is known about the objects."""
    store = ObjectStore.connect("http://127.0.0.1:9", "a", "b", attempts=1)
    with pytest.raises(UnavailableError):
        damaged_objects(store, MANIFEST, BUCKETS, Pace(1 << 40))
