"""Objects in S3. No other package uses boto3.

The modules of this package import it only when they use it: it takes 0.1 s, and most steps only handle names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ims.errors import InputError, UnavailableError
from ims.storage.clients import client_config
from ims.storage.digests import CHUNK, Digests, append, digest_file, digest_sha256
from ims.storage.errors import storage_errors

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

PART_SIZE = 32 * 1024 * 1024
_PARTS_AT_A_TIME = 4
"""They were as fast as curl against Ceph. More parts only cost memory."""
_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>.+)", re.DOTALL)
_MD5_ETAG = re.compile(r"[0-9a-f]{32}")
Reader = Callable[[int], Iterator[bytes]]
"""Yields the content of an object from a given byte on."""


@dataclass(frozen=True)
class ObjectName:
    """The bucket and the key of an object."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, url: str, buckets: Collection[str] = ()) -> ObjectName:
        """Parses `s3://bucket/key`. If `buckets` are given, the object must be in one of them.

        Raises InputError if the address has another form or names another bucket.
        """
        match = _URL.fullmatch(url)
        if match is None:
            raise InputError(f"{url!r} is not the address of an S3 object", "Write it as s3://bucket/key")
        if buckets and match["bucket"] not in buckets:
            raise InputError(f"{url} is in the bucket {match['bucket']}", f"Upload it to {' or '.join(buckets)}")
        return cls(match["bucket"], match["key"])

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class StoredObject:
    """The properties of an object. The ETag has no quotes."""

    size: int
    etag: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class ListedObject:
    """An object in a listing. The ETag has no quotes."""

    name: ObjectName
    size: int
    modified: datetime
    etag: str


@dataclass(frozen=True)
class UnfinishedUpload:
    """A multipart upload that was neither completed nor aborted."""

    name: ObjectName
    id: str
    begun: datetime


class ObjectStore:
    """A client of an S3. Every method may raise MissingError, ConfigurationError or UnavailableError."""

    def __init__(self, client: S3Client) -> None:
        self._client = client

    @classmethod
    def connect(
        cls,
        endpoint_url: str,
        access_key: str,
        secret_key: str,
        session_token: str | None = None,
        *,
        attempts: int = 12,
    ) -> ObjectStore:
        """Connects to the S3 at `endpoint_url`."""
        import boto3

        config = client_config(endpoint_url, attempts=attempts)
        session = boto3.session.Session(access_key, secret_key, session_token, region_name="us-east-1")
        return cls(session.client("s3", endpoint_url=endpoint_url, config=config))

    @classmethod
    def from_environment(cls, *, attempts: int = 12) -> ObjectStore:
        """Connects to the S3 that the variables AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and so on name."""
        return cls.connect(
            os.environ["AWS_ENDPOINT_URL"],
            os.environ["AWS_ACCESS_KEY_ID"],
            os.environ["AWS_SECRET_ACCESS_KEY"],
            os.environ.get("AWS_SESSION_TOKEN"),
            attempts=attempts,
        )

    @property
    def client(self) -> S3Client:
        """The client of boto3."""
        return self._client

    def stat(self, name: ObjectName) -> StoredObject:
        """Returns the size, ETag and metadata of an object."""
        with storage_errors(str(name)):
            head = self._client.head_object(Bucket=name.bucket, Key=name.key)
        return StoredObject(head["ContentLength"], head["ETag"].strip('"'), head["Metadata"])

    def read(self, name: ObjectName, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yields the content of an object from the byte `start` on, in chunks; if `end` is given, only to there."""
        with storage_errors(str(name)):
            get = partial(self._client.get_object, Bucket=name.bucket, Key=name.key)
            # S3 rejects a range of an empty object.
            answer = get(Range=f"bytes={start}-{'' if end is None else end - 1}") if start or end else get()
            yield from answer["Body"].iter_chunks(CHUNK)

    def read_bytes(self, name: ObjectName, limit: int) -> bytes:
        """Returns the content of a small object. Raises InputError if it is larger than `limit` bytes."""
        data = b""
        for chunk in self.read(name):
            data += chunk
            if len(data) > limit:
                raise InputError(f"{name} is larger than {limit} bytes")
        return data

    def write_bytes(self, name: ObjectName, data: bytes) -> str:
        """Writes a small object; returns its ETag."""
        with storage_errors(str(name)):
            return self._client.put_object(Bucket=name.bucket, Key=name.key, Body=data)["ETag"].strip('"')

    def download(self, name: ObjectName, path: Path, *, limit: int | None = None) -> Digests:
        """Downloads an object to a file, which appears only when it is complete; returns its digests.

        Raises InputError if the content does not match the checksums in S3, or if it has more than `limit` bytes.
        """
        if limit is not None and (size := self.stat(name).size) > limit:
            raise InputError(f"{name} has {size} bytes, more than the {limit} that are allowed")
        partial_of(path).unlink(missing_ok=True)
        try:
            return self.resume(name, path)
        finally:
            partial_of(path).unlink(missing_ok=True)

    def resume(
        self,
        name: ObjectName,
        path: Path,
        md5: str = "",
        on_progress: Callable[[int], object] = lambda size: None,
        read: Reader | None = None,
    ) -> Digests:
        """Like `download`, but if it is interrupted, the `.partial` file stays and the next call continues from it.

        The content must also match `md5`, if given. `on_progress` is called with the size of each chunk. `read`, if
        given, provides the content instead of S3.
        """
        stored = self.stat(name)
        partial_file = partial_of(path)
        start = _usable_size(partial_file, stored.size)
        rest = (read or partial(self.read, name))(start) if start < stored.size else iter(())
        found = append(partial_file, _at_most(rest, stored.size - start, name), on_progress)
        try:
            found.check(name, stored.size, checksums(stored, md5))
        except InputError:
            partial_file.unlink()
            if not start:
                raise
            # The first part may come from an object that was replaced since.
            return self.resume(name, path, md5, on_progress, read)
        partial_file.rename(path)
        return found

    def upload(
        self, path: Path, name: ObjectName, metadata: Mapping[str, str], known: Digests | None = None
    ) -> StoredObject:
        """Uploads a file, in parts if it is large, and reads the object back to verify it.

        `known` are the digests of the file, if they were computed before.
        Raises UnavailableError if the object differs from the file.
        """
        from boto3.s3.transfer import TransferConfig

        expected = known or digest_file(path)
        labels = {"Metadata": {**metadata, "md5sum": expected.md5, "sha256": expected.sha256}}
        parts = TransferConfig(PART_SIZE, multipart_chunksize=PART_SIZE, max_concurrency=_PARTS_AT_A_TIME)
        with storage_errors(str(name)):
            self._client.upload_file(str(path), name.bucket, name.key, ExtraArgs=labels, Config=parts)
        if digest_sha256(self.read(name)) != expected.sha256:
            raise UnavailableError(f"the content of {name} in S3 differs from the file that was uploaded")
        return self.stat(name)

    def delete(self, name: ObjectName) -> None:
        """Deletes an object, if it exists."""
        with storage_errors(str(name)):
            self._client.delete_object(Bucket=name.bucket, Key=name.key)

    def delete_prefix(self, bucket: str, prefix: str) -> int:
        """Deletes all objects and aborts all uploads below `prefix`; returns their number."""
        removed = 0
        for upload in list(self.uploads(bucket, prefix)):
            self.abort(upload)
            removed += 1
        for item in self.objects(bucket, prefix):
            self.delete(item.name)
            removed += 1
        return removed

    def objects(self, bucket: str, prefix: str = "") -> Iterator[ListedObject]:
        """Lists the objects whose keys begin with `prefix`."""
        with storage_errors(f"s3://{bucket}/{prefix}"):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for item in page.get("Contents", []):
                    name, etag = ObjectName(bucket, item["Key"]), item["ETag"].strip('"')
                    yield ListedObject(name, item["Size"], item["LastModified"], etag)

    def uploads(self, bucket: str, prefix: str = "") -> Iterator[UnfinishedUpload]:
        """Lists the unfinished uploads to keys that begin with `prefix`."""
        with storage_errors(f"s3://{bucket}/{prefix}"):
            for page in self._client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
                for item in page.get("Uploads", []):
                    yield UnfinishedUpload(ObjectName(bucket, item["Key"]), item["UploadId"], item["Initiated"])

    def parts_size(self, upload: UnfinishedUpload) -> int:
        """The size of the parts that an unfinished upload has so far."""
        where: Any = {"Bucket": upload.name.bucket, "Key": upload.name.key, "UploadId": upload.id}
        with storage_errors(str(upload.name)):
            pages = self._client.get_paginator("list_parts").paginate(**where)
            return sum(part["Size"] for page in pages for part in page.get("Parts", []))

    def abort(self, upload: UnfinishedUpload) -> None:
        """Aborts an upload and deletes its parts."""
        with storage_errors(str(upload.name)):
            self._client.abort_multipart_upload(Bucket=upload.name.bucket, Key=upload.name.key, UploadId=upload.id)


def partial_of(path: Path) -> Path:
    """The file that has the content of `path` until the download is complete."""
    return path.with_name(path.name + ".partial")


def _usable_size(path: Path, size: int) -> int:
    """The bytes that an interrupted download of `size` bytes left in a file. More bytes are another object's."""
    found = path.stat().st_size if path.exists() else 0
    if found > size:
        path.unlink()
        return 0
    return found


def _at_most(chunks: Iterator[bytes], size: int, name: ObjectName) -> Iterator[bytes]:
    """The chunks of an object. Raises UnavailableError if they have more than `size` bytes: it was replaced."""
    for chunk in chunks:
        size -= len(chunk)
        if size < 0:
            raise UnavailableError(f"{name} changed while it was downloaded")
        yield chunk


def checksums(stored: StoredObject, md5: str) -> list[tuple[str, str]]:
    """The checksums that S3 has of an object, and `md5`. An ETag is an MD5 only if it looks like one."""
    etag = stored.etag if _MD5_ETAG.fullmatch(stored.etag) else ""
    metadata = stored.metadata
    return [("sha256", metadata.get("sha256", "")), ("md5", metadata.get("md5sum") or etag), ("md5", md5)]
