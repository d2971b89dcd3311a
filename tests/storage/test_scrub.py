"""Reading the objects of an image in a real S3, some of which are damaged."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.stub import Stubber

from ims.errors import ConfigurationError, InputError, UnavailableError
from ims.storage import scrub
from ims.storage.digests import digest_file
from ims.storage.manifest import MAX_BYTES, Artifact, Link, write_manifest
from ims.storage.objects import ObjectName, ObjectStore, StoredObject
from ims.storage.scrub import OutOfTimeError, Pace, check_buckets, damaged_objects
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
        return damaged_objects(self.store, str(MANIFEST), BUCKETS, Pace(rate, 3600))

    def read(self, link: str, buckets: tuple[str, ...] = BUCKETS) -> list[str]:
        """What is wrong with the image of a link, if these are the buckets of the settings."""
        return damaged_objects(self.store, link, buckets, Pace(1 << 40, 3600))

    def rewrite_in_parts(self, content: bytes) -> None:
        """Write the rootfs again, in parts and without checksums."""
        config = TransferConfig(multipart_threshold=1, multipart_chunksize=5 << 20)
        data = io.BytesIO(content)
        self.store.client.upload_fileobj(data, self.rootfs.bucket, self.rootfs.key, Config=config)
        assert "-" in self.store.stat(self.rootfs).etag


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


def test_stored_links_that_break_the_rules(image: Image) -> None:
    """They are damage of the image that has them."""
    assert image.read("s3:/boot-images") == ["'s3:/boot-images' is not the address of an S3 object"]
    image.store.write_bytes(MANIFEST, b"x" * (MAX_BYTES + 1))
    assert image.damage() == [f"{MANIFEST} is larger than {MAX_BYTES} bytes"]


def test_s3_is_away(image: Image) -> None:
    """Then nothing is known about the objects."""
    store = ObjectStore.connect("http://127.0.0.1:9", "a", "b", attempts=1)
    with pytest.raises(UnavailableError):
        damaged_objects(store, str(MANIFEST), BUCKETS, Pace(1 << 40, 3600))


def test_wrong_credentials(image: Image) -> None:
    """S3 refuses all requests, which says nothing about the objects."""
    wrong = ObjectStore.connect(image.s3.settings.endpoint_url, "wrong", "wrong", attempts=1)
    with pytest.raises(ConfigurationError, match="S3 refuses access"):
        damaged_objects(wrong, str(MANIFEST), BUCKETS, Pace(1 << 40, 3600))
    with pytest.raises(ConfigurationError, match="S3 refuses access to the bucket boot-images"):
        check_buckets(wrong, ["boot-images"])


def test_wrong_bucket(image: Image) -> None:
    """A bucket of the settings that does not exist, or another than that of the image, is no damage of the image."""
    check_buckets(image.store, ["boot-images"])
    with pytest.raises(ConfigurationError, match="the bucket none does not exist in S3"):
        image.read("s3://none/1/manifest.yaml", buckets=("ims", "none"))
    with pytest.raises(ConfigurationError, match=r"manifest\.yaml is not in the bucket ims or none"):
        image.read(str(MANIFEST), buckets=("ims", "none"))


def test_object_in_other_parts(image: Image) -> None:
    """A copy of the same content may have another ETag, which says nothing: the content counts."""
    image.rewrite_in_parts(CONTENT)
    assert image.damage() == []
    image.rewrite_in_parts(CONTENT[:-1] + b"!")
    (found,) = image.damage()
    assert found.startswith(f"{image.rootfs} is damaged: its md5 is ")


def test_too_little_time(image: Image) -> None:
    """An image that is too large for the rate is not begun, and reading ends when its time is over."""
    with pytest.raises(OutOfTimeError, match=r"at IMS_SCRUB_MIB=1 takes .* Set IMS_SCRUB_MIB to more than 2\.4"):
        damaged_objects(image.store, str(MANIFEST), BUCKETS, Pace(1 << 20, 1))
    pace = Pace(1 << 20, 1)
    with pytest.raises(OutOfTimeError, match="reading it took longer than 1 s"):
        list(pace.slow([b"x" * (1 << 19), b"x" * (1 << 20)]))


@pytest.fixture
def refusing() -> Iterator[tuple[ObjectStore, Stubber]]:
    """An S3 that refuses the first request, for the properties of an object, without a reason; its other answers."""
    store = ObjectStore.connect("http://127.0.0.1:9", "a", "b", attempts=1)
    with Stubber(store.client) as answers:
        answers.add_client_error("head_object", "400", http_status_code=400)
        yield store, answers


def test_refused_requests(refusing: tuple[ObjectStore, Stubber]) -> None:
    """If S3 refuses every request, nothing is known about the objects."""
    store, answers = refusing
    answers.add_client_error("head_bucket", "400", http_status_code=400)
    with pytest.raises(InputError, match=r"address the bucket boot-images \(400\)"):
        damaged_objects(store, str(MANIFEST), BUCKETS, Pace(1, 1))


def test_refused_key(refusing: tuple[ObjectStore, Stubber]) -> None:
    """If S3 refuses a single key, which users write in manifests, the image is damaged."""
    store, answers = refusing
    answers.add_response("head_bucket", {})
    found = damaged_objects(store, str(MANIFEST), BUCKETS, Pace(1, 1))
    assert found == [f"S3 does not accept the address {MANIFEST} (400)"]


@dataclass
class Unreadable:
    """A store that knows every object, and answers with an error when one is read."""

    exists: bool = True
    tries: int = 0

    def stat(self, name: ObjectName) -> StoredObject:
        """An object. Raises UnavailableError: S3 is away."""
        if not self.exists:
            raise UnavailableError(f"S3 cannot be reached for {name}")
        return StoredObject(6, "etag", {})

    def read_bytes(self, name: ObjectName, _limit: int) -> bytes:
        """Raises UnavailableError."""
        self.tries += 1
        if self.tries == 2 and name.bucket == "ims":
            self.exists = False
        raise UnavailableError(f"S3 answers 500 for {name}")


def test_unreadable_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is damage if S3 knows the manifest and never gives it, but not if S3 goes away meanwhile."""
    monkeypatch.setattr(scrub, "PAUSE_SECONDS", 0)
    store: Any = Unreadable()
    assert damaged_objects(store, str(MANIFEST), BUCKETS, Pace(1, 1)) == [f"S3 answers 500 for {MANIFEST}"]
    assert store.tries == scrub.TRIES
    with pytest.raises(UnavailableError, match="S3 cannot be reached"):
        damaged_objects(cast("Any", Unreadable()), "s3://ims/manifest.yaml", BUCKETS, Pace(1, 1))
