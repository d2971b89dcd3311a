"""Uploads an object that is mostly the same as another one: S3 copies what is equal."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ims.errors import ImsError, UnavailableError
from ims.storage.digests import CHUNK, Digests, digest_sha256
from ims.storage.errors import storage_errors
from ims.storage.objects import ObjectName, ObjectStore, StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIN_PART = 5 * 1024**2
"""Bytes. S3 accepts smaller parts only at the end of an object."""
MIN_KEPT = 2 * MIN_PART
"""Bytes that the two objects must share: one part is sent with the new head, at least one is copied."""
_PART = 32 * 1024**2
_MAX_PARTS = 4000
_THREADS = 4

_Send = Callable[[int], str]
"""Sends or copies the part with a number; returns its ETag."""


@dataclass(frozen=True)
class Spliced:
    """The content of an object: `head` bytes of a file, those of `base` from there to `kept`, the rest of the file.

    `etag` is that of the base, if its content is known to be the expected one.
    """

    base: ObjectName
    kept: int
    path: Path
    head: int
    etag: str | None = None


@dataclass(frozen=True)
class StoredSource:
    """An object that has the content of a new one. S3 knows its SHA-256."""

    name: ObjectName
    etag: str
    digests: Digests


def spliced_chunks(base: Path, spliced: Spliced) -> Iterator[bytes]:
    """The content in chunks, with that of `base` from a file. Raises UnavailableError if one is too short."""
    size = spliced.path.stat().st_size
    yield from _range(spliced.path, 0, spliced.head)
    yield from _range(base, spliced.head, spliced.kept)
    yield from _range(spliced.path, spliced.head, size)


def copy(store: ObjectStore, source: StoredSource, name: ObjectName, metadata: Mapping[str, str]) -> StoredObject:
    """Lets S3 copy a whole object. The copy has `metadata`.

    Raises UnavailableError if the object has another ETag or other digests, or if S3 cannot copy it.
    """
    expected = source.digests
    labels = {**metadata, "md5sum": expected.md5, "sha256": expected.sha256}
    before = store.stat(source.name)
    if (before.etag, before.size, before.metadata.get("sha256")) != (source.etag, expected.size, expected.sha256):
        raise UnavailableError(f"{source.name} was replaced")
    with storage_errors(str(source.name)):
        store.client.copy_object(
            Bucket=name.bucket,
            Key=name.key,
            CopySource={"Bucket": source.name.bucket, "Key": source.name.key},
            CopySourceIfMatch=source.etag,
            Metadata=labels,
            MetadataDirective="REPLACE",
        )
    if store.stat(source.name).etag != source.etag:
        store.delete(name)
        raise UnavailableError(f"{source.name} was replaced")
    return store.stat(name)


def upload_spliced(
    store: ObjectStore, spliced: Spliced, name: ObjectName, metadata: Mapping[str, str], expected: Digests
) -> StoredObject:
    """Uploads an object of which S3 copies a part from the base. S3 verifies what is sent.

    The object is read back only if the ETag of the base is not the known one. If the upload fails, nothing of it stays.
    Raises UnavailableError also if the base is not the one that is expected.
    """
    labels = {**metadata, "md5sum": expected.md5, "sha256": expected.sha256}
    before = store.stat(spliced.base)
    with storage_errors(str(name)):
        upload = _Upload(store.client, name, labels)
        try:
            upload.run(list(_parts(upload, spliced, before.etag)))
        except BaseException:
            with suppress(ImsError):  # the sweep deletes what is left
                upload.abort()
            raise
    try:
        return _verified(store, spliced, name, before, expected)
    except BaseException:
        store.delete(name)
        raise


def _verified(
    store: ObjectStore, spliced: Spliced, name: ObjectName, before: StoredObject, expected: Digests
) -> StoredObject:
    """Returns an object. Raises UnavailableError unless it has the expected content.

    Not all stores check CopySourceIfMatch.
    """
    stored = store.stat(name)
    is_same = store.stat(spliced.base).etag == before.etag and stored.size == expected.size
    if is_same and before.etag != spliced.etag:
        is_same = digest_sha256(store.read(name)) == expected.sha256
    if not is_same:
        raise UnavailableError(f"the content of {name} in S3 is not that of the new image: {spliced.base} was replaced")
    return stored


class _Upload:
    """An upload in parts."""

    def __init__(self, client: S3Client, name: ObjectName, metadata: Mapping[str, str]) -> None:
        self.client, self.name = client, name
        created = client.create_multipart_upload(Bucket=name.bucket, Key=name.key, Metadata=dict(metadata))
        self.id = created["UploadId"]

    def run(self, parts: list[_Send]) -> None:
        """Sends all parts and completes the object. After an error, no other part begins."""
        with ThreadPoolExecutor(_THREADS) as pool:
            running: list[Future[str]] = [pool.submit(send, number) for number, send in enumerate(parts, 1)]
            wait(running, return_when=FIRST_EXCEPTION)
            pool.shutdown(cancel_futures=True)
            etags = [item.result() for item in running]
        self.client.complete_multipart_upload(
            Bucket=self.name.bucket,
            Key=self.name.key,
            UploadId=self.id,
            MultipartUpload={"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]},
        )

    def abort(self) -> None:
        """Deletes the parts."""
        with storage_errors(str(self.name)):
            self.client.abort_multipart_upload(Bucket=self.name.bucket, Key=self.name.key, UploadId=self.id)

    def send(self, read: Callable[[], bytes], number: int) -> str:
        """Sends a part; returns its ETag."""
        data = read()
        answer = self.client.upload_part(
            Bucket=self.name.bucket,
            Key=self.name.key,
            UploadId=self.id,
            PartNumber=number,
            Body=data,
            ContentMD5=base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode(),
        )
        return answer["ETag"]

    def copy(self, base: ObjectName, etag: str, piece: range, number: int) -> str:
        """Lets S3 copy a part, if the base still has the ETag; returns that of the part."""
        answer = self.client.upload_part_copy(
            Bucket=self.name.bucket,
            Key=self.name.key,
            UploadId=self.id,
            PartNumber=number,
            CopySource={"Bucket": base.bucket, "Key": base.key},
            CopySourceRange=f"bytes={piece.start}-{piece.stop - 1}",
            CopySourceIfMatch=etag,
        )
        return answer["CopyPartResult"]["ETag"]


def _parts(upload: _Upload, spliced: Spliced, etag: str) -> Iterator[_Send]:
    """The parts of the object, in order."""
    yield partial(upload.send, partial(_first, upload.client, spliced, etag))
    for piece in _pieces(MIN_PART, spliced.kept):
        yield partial(upload.copy, spliced.base, etag, piece)
    for piece in _pieces(spliced.head, spliced.path.stat().st_size):
        yield partial(upload.send, partial(_read, spliced.path, piece))


def _first(client: S3Client, spliced: Spliced, etag: str) -> bytes:
    """The first part, in which the new head replaces that of the base."""
    base = client.get_object(
        Bucket=spliced.base.bucket,
        Key=spliced.base.key,
        Range=f"bytes={spliced.head}-{MIN_PART - 1}",
        IfMatch=etag,
    )
    return _read(spliced.path, range(spliced.head)) + base["Body"].read()


def _pieces(start: int, end: int) -> Iterator[range]:
    """Divides a range into pieces of at least 32 MiB, or one smaller piece."""
    size = max(_PART, -(-(end - start) // _MAX_PARTS))
    count = max(1, (end - start) // size)
    for number in range(count):
        yield range(start + number * size, end if number == count - 1 else start + (number + 1) * size)


def _read(path: Path, piece: range) -> bytes:
    return b"".join(_range(path, piece.start, piece.stop))


def _range(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < end:
            if not (chunk := file.read(min(CHUNK, end - start))):
                raise UnavailableError(f"{path.name} ends after {start} of {end} bytes")
            start += len(chunk)
            yield chunk
