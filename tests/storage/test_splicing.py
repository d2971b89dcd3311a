"""Objects of which S3 copies a part, against the S3 of the stack."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from ims.errors import ImsError, MissingError, UnavailableError
from ims.stack.environment import s3_environment
from ims.storage.digests import Digests, digest, digest_file
from ims.storage.objects import ObjectName, ObjectStore
from ims.storage.splicing import MIN_KEPT, MIN_PART, Spliced, StoredSource, copy, spliced_chunks, upload_spliced
from tests.ceph import CephGateway
from tests.service import Service

OUTAGE = 60
"""Seconds."""
HEAD = 96
LARGE = 70 * 1024**2 + 12345
"""Bytes. The base is copied in two parts."""


@pytest.fixture
def store(service: Service) -> ObjectStore:
    """The S3 of the stack."""
    return service.store


@pytest.fixture
def name(service: Service) -> Iterator[ObjectName]:
    """The name of an object that does not exist, below a prefix that is deleted after the test."""
    prefix = f"test-{uuid4()}"
    yield ObjectName(service.settings.images_bucket, f"{prefix}/new")
    service.store.delete_prefix(service.settings.images_bucket, f"{prefix}/")


def noise(path: Path, size: int) -> Path:
    """A file that no other file equals."""
    path.write_bytes(random.randbytes(size))  # noqa: S311  (no secret)
    return path


def prepare(store: ObjectStore, name: ObjectName, folder: Path, size: int, kept: int, rest: int) -> Spliced:
    """Uploads a base of `size` bytes, and makes a file with the head and the rest of a new object."""
    base = ObjectName(name.bucket, name.key.replace("/new", "/base"))
    store.upload(noise(folder / "base", size), base, {})
    return Spliced(base, kept, noise(folder / "changes", HEAD + rest), HEAD)


def expected(folder: Path, spliced: Spliced) -> Digests:
    """The digests of the new object."""
    return digest(spliced_chunks(folder / "base", spliced))


def leftovers(store: ObjectStore, name: ObjectName) -> list[str]:
    """What is in S3, without the base."""
    prefix = name.key.removesuffix("new")
    found = [item.name.key for item in store.objects(name.bucket, prefix)]
    found += [item.name.key for item in store.uploads(name.bucket, prefix)]
    return [key for key in found if not key.endswith("/base")]


SIZES = {
    "smallest": (MIN_KEPT, MIN_KEPT, 1),
    "a part more": (MIN_KEPT + MIN_PART + 1, MIN_KEPT + MIN_PART, 4096),
    "large": (LARGE, LARGE - 999, 1000),
    "large changes": (MIN_KEPT + 5, MIN_KEPT, LARGE),
    "nothing added": (MIN_KEPT + 5, MIN_KEPT + 1, 0),
}


@pytest.mark.parametrize(("size", "kept", "rest"), SIZES.values(), ids=SIZES)
def test_object_has_the_bytes_of_both(
    store: ObjectStore, name: ObjectName, tmp_path: Path, size: int, kept: int, rest: int
) -> None:
    """Its digests are in the metadata, as those of other uploads."""
    spliced = prepare(store, name, tmp_path, size, kept, rest)
    digests = expected(tmp_path, spliced)
    stored = upload_spliced(store, spliced, name, {"x-label": "value"}, digests)
    assert stored.metadata == {"x-label": "value", "md5sum": digests.md5, "sha256": digests.sha256}
    assert stored.size == digests.size == kept + rest
    assert store.download(name, tmp_path / "down") == digests
    old, changes = (tmp_path / "base").read_bytes(), (tmp_path / "changes").read_bytes()
    assert (tmp_path / "down").read_bytes() == changes[:HEAD] + old[HEAD:kept] + changes[HEAD:]
    assert digest_file(tmp_path / "base") == store.download(spliced.base, tmp_path / "down")


def test_little_is_sent(store: ObjectStore, name: ObjectName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head, the part of the base after it, and the changes."""
    spliced = prepare(store, name, tmp_path, LARGE, LARGE, 5000)
    sent: list[int] = []
    original = store.client.upload_part

    def count(**arguments: Any) -> Any:
        sent.append(len(arguments["Body"]))
        return original(**arguments)

    monkeypatch.setattr(store.client, "upload_part", count)
    upload_spliced(store, spliced, name, {}, expected(tmp_path, spliced))
    assert sorted(sent) == [5000, MIN_PART]


def test_known_base(store: ObjectStore, name: ObjectName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the content of the base is known, the new object is not read back. It is right all the same."""
    spliced = prepare(store, name, tmp_path, LARGE, LARGE, 5000)
    digests = expected(tmp_path, spliced)
    known = replace(spliced, etag=store.stat(spliced.base).etag)
    with monkeypatch.context() as patched:
        patched.setattr(store, "read", None)
        upload_spliced(store, known, name, {}, digests)
    assert store.download(name, tmp_path / "down") == digests
    monkeypatch.setattr(store, "read", None)
    with pytest.raises(TypeError):
        upload_spliced(store, replace(spliced, etag="0" * 32), name, {}, digests)
    assert leftovers(store, name) == []


def test_what_is_sent_is_verified(
    store: ObjectStore, name: ObjectName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 refuses parts that are damaged on the way."""
    spliced = prepare(store, name, tmp_path, MIN_KEPT, MIN_KEPT, 5000)
    digests = expected(tmp_path, spliced)
    send = store.client.upload_part

    def damage(**arguments: Any) -> Any:
        return send(**{**arguments, "Body": bytes(len(arguments["Body"]))})

    monkeypatch.setattr(store.client, "upload_part", damage)
    with pytest.raises(ImsError, match="S3"):
        upload_spliced(store, replace(spliced, etag=store.stat(spliced.base).etag), name, {}, digests)
    assert leftovers(store, name) == []


def original(store: ObjectStore, name: ObjectName, folder: Path) -> StoredSource:
    """Uploads an object that can be copied."""
    base = ObjectName(name.bucket, name.key.replace("/new", "/base"))
    digests = digest_file(noise(folder / "base", 5000))
    return StoredSource(base, store.upload(folder / "base", base, {}).etag, digests)


def test_whole_object_is_copied(store: ObjectStore, name: ObjectName, tmp_path: Path) -> None:
    """It has its own labels, and the digests in its metadata."""
    source = original(store, name, tmp_path)
    stored = copy(store, source, name, {"x-label": "value"})
    digests = source.digests
    assert stored.metadata == {"x-label": "value", "md5sum": digests.md5, "sha256": digests.sha256}
    assert store.download(name, tmp_path / "down") == digests


def test_replaced_object_is_not_copied(store: ObjectStore, name: ObjectName, tmp_path: Path) -> None:
    """Neither is one with the same ETag whose SHA-256 is another."""
    source = original(store, name, tmp_path)
    other = replace(source, digests=replace(source.digests, sha256="0" * 64))
    with pytest.raises(UnavailableError, match="was replaced"):
        copy(store, other, name, {})
    store.write_bytes(source.name, b"another")
    with pytest.raises(UnavailableError, match="was replaced"):
        copy(store, source, name, {})
    assert leftovers(store, name) == []


def test_base_is_missing(store: ObjectStore, name: ObjectName, tmp_path: Path) -> None:
    """Nothing is begun."""
    spliced = prepare(store, name, tmp_path, MIN_KEPT, MIN_KEPT, 1)
    digests = expected(tmp_path, spliced)
    store.delete(spliced.base)
    with pytest.raises(MissingError):
        upload_spliced(store, spliced, name, {}, digests)
    assert leftovers(store, name) == []


def test_base_was_replaced_before(store: ObjectStore, name: ObjectName, tmp_path: Path) -> None:
    """Reading the object back shows it. The object is deleted."""
    spliced = prepare(store, name, tmp_path, MIN_KEPT, MIN_KEPT, 1)
    digests = expected(tmp_path, spliced)
    store.upload(noise(tmp_path / "other", MIN_KEPT), spliced.base, {})
    with pytest.raises(UnavailableError, match=f"{spliced.base} was replaced"):
        upload_spliced(store, spliced, name, {}, digests)
    assert leftovers(store, name) == []


def test_base_is_replaced_meanwhile(
    store: ObjectStore, name: ObjectName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 refuses to copy from a base with another ETag. The parts are deleted."""
    spliced = prepare(store, name, tmp_path, LARGE, LARGE, 1)
    digests = expected(tmp_path, spliced)
    original = store.client.create_multipart_upload

    def replace(**arguments: Any) -> Any:
        monkeypatch.undo()  # the upload of the other base calls this, too
        store.upload(noise(tmp_path / "other", LARGE), spliced.base, {})
        return original(**arguments)

    monkeypatch.setattr(store.client, "create_multipart_upload", replace)
    with pytest.raises(UnavailableError, match=r"S3 answers (PreconditionFailed|412)"):
        upload_spliced(store, spliced, name, {}, digests)
    assert leftovers(store, name) == []


def test_copy_fails(store: ObjectStore, name: ObjectName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that were sent before are deleted."""
    spliced = prepare(store, name, tmp_path, LARGE, LARGE, 1)
    digests = expected(tmp_path, spliced)

    def fail(**_arguments: Any) -> Any:
        raise ClientError({"Error": {"Code": "NotImplemented"}}, "UploadPartCopy")

    monkeypatch.setattr(store.client, "upload_part_copy", fail)
    with pytest.raises(ImsError, match="S3 answers NotImplemented"):
        upload_spliced(store, spliced, name, {}, digests)
    assert leftovers(store, name) == []


def test_s3_is_away_in_the_copy(
    store: ObjectStore, name: ObjectName, tmp_path: Path, gateway: CephGateway | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy goes on after an outage of one minute. The object is right."""
    if gateway is None:
        pytest.skip("needs make test-ceph")
    spliced = prepare(store, name, tmp_path, LARGE, LARGE, 5000)
    digests = expected(tmp_path, spliced)
    original, back = store.client.upload_part_copy, threading.Timer(OUTAGE, gateway.start)

    def cut(**arguments: Any) -> Any:
        monkeypatch.undo()
        gateway.stop()
        back.start()
        return original(**arguments)

    monkeypatch.setattr(store.client, "upload_part_copy", cut)
    upload_spliced(store, replace(spliced, etag=store.stat(spliced.base).etag), name, {}, digests)
    back.join()
    assert store.download(name, tmp_path / "down") == digests
    assert leftovers(store, name) == [name.key]


KILLED = """
import os, signal, sys
from pathlib import Path
from ims.storage.digests import Digests
from ims.storage.objects import ObjectName, ObjectStore
from ims.storage.splicing import Spliced, upload_spliced

store, (bucket, base, new, kept, path) = ObjectStore.from_environment(), sys.argv[1:]
copy = store.client.upload_part_copy
store.client.upload_part_copy = lambda **arguments: (copy(**arguments), os.kill(os.getpid(), signal.SIGKILL))
spliced = Spliced(ObjectName(bucket, base), int(kept), Path(path), 96)
upload_spliced(store, spliced, ObjectName(bucket, new), {}, Digests(0, "", ""))
"""


def test_process_is_killed_in_the_copy(store: ObjectStore, name: ObjectName, service: Service, tmp_path: Path) -> None:
    """The task that closes a failed job, and the sweep, find what is left, and delete it."""
    spliced = prepare(store, name, tmp_path, LARGE, LARGE, 5000)
    arguments = [name.bucket, spliced.base.key, name.key, str(spliced.kept), str(spliced.path)]
    environment = {**os.environ, **s3_environment(service.settings, service.credentials)}
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = store.uploads(name.bucket, name.key)
    assert store.parts_size(left) > 0
    assert store.delete_prefix(name.bucket, name.key) == 1
    assert leftovers(store, name) == []


def test_changes_are_truncated(tmp_path: Path) -> None:
    """The content ends with an error instead of too early."""
    spliced = Spliced(ObjectName("bucket", "base"), 100, noise(tmp_path / "changes", HEAD + 1), HEAD)
    with pytest.raises(UnavailableError, match="base ends after 99 of 100 bytes"):
        list(spliced_chunks(noise(tmp_path / "base", 99), spliced))
