"""The one seam to object storage: any S3, through boto3."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from ims.errors import InputError, UnavailableError
from ims.storage.digests import CHUNK, Digests, digest, digest_file, digest_sha256, read_chunks
from ims.storage.errors import storage_errors

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

# 32 MiB parts, four at a time: measured as fast as curl against Ceph. A larger `max_concurrency` only costs memory.
TRANSFER = TransferConfig(multipart_threshold=32 * 1024 * 1024, multipart_chunksize=32 * 1024 * 1024, max_concurrency=4)
_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>.+)", re.DOTALL)
_MD5_ETAG = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class ObjectName:
    """Where an object is: bucket and key."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, url: str) -> ObjectName:
        """Read `s3://bucket/key`. Raises InputError: it is something else."""
        match = _URL.fullmatch(url)
        if match is None:
            raise InputError(f"{url!r} is not the address of an S3 object", "Write it as s3://bucket/key")
        return cls(match["bucket"], match["key"])

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class StoredObject:
    """What S3 says of an object; the etag is without quotes."""

    size: int
    etag: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class ListedObject:
    """What a list says of an object."""

    name: ObjectName
    size: int
    modified: datetime


@dataclass(frozen=True)
class UnfinishedUpload:
    """An upload in parts of which no object has come yet."""

    name: ObjectName
    id: str
    begun: datetime


class ObjectStore:
    """Objects in S3. Every method raises MissingError, ConfigurationError or UnavailableError as it applies."""

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
        """A store at `endpoint_url`. Twelve attempts outlast an outage of about a minute."""
        config = Config(
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=5,
            read_timeout=60,
            s3={
                "addressing_style": "path",
                # Hashing every byte once more is needed only where TLS does not protect it already.
                "payload_signing_enabled": not endpoint_url.startswith("https:"),
            },
        )
        session = boto3.session.Session(access_key, secret_key, session_token, region_name="us-east-1")
        return cls(session.client("s3", endpoint_url=endpoint_url, config=config))

    @classmethod
    def from_environment(cls, *, attempts: int = 12) -> ObjectStore:
        """The store that AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN name."""
        return cls.connect(
            os.environ["AWS_ENDPOINT_URL"],
            os.environ["AWS_ACCESS_KEY_ID"],
            os.environ["AWS_SECRET_ACCESS_KEY"],
            os.environ.get("AWS_SESSION_TOKEN"),
            attempts=attempts,
        )

    def stat(self, name: ObjectName) -> StoredObject:
        """Size, etag and metadata of an object."""
        with storage_errors(str(name)):
            head = self._client.head_object(Bucket=name.bucket, Key=name.key)
        return StoredObject(head["ContentLength"], head["ETag"].strip('"'), head["Metadata"])

    def read(self, name: ObjectName, start: int = 0) -> Iterator[bytes]:
        """The bytes of an object from `start` on, in pieces."""
        with storage_errors(str(name)):
            get = partial(self._client.get_object, Bucket=name.bucket, Key=name.key)
            # A range of an empty object is an error.
            answer = get(Range=f"bytes={start}-") if start else get()
            yield from answer["Body"].iter_chunks(CHUNK)

    def read_bytes(self, name: ObjectName, limit: int) -> bytes:
        """A small object whole. Raises InputError: it is larger than `limit` bytes."""
        data = b""
        for chunk in self.read(name):
            data += chunk
            if len(data) > limit:
                raise InputError(f"{name} is larger than {limit} bytes")
        return data

    def write_bytes(self, name: ObjectName, data: bytes) -> str:
        """Store a small object; returns its etag."""
        with storage_errors(str(name)):
            return self._client.put_object(Bucket=name.bucket, Key=name.key, Body=data)["ETag"].strip('"')

    def download(self, name: ObjectName, path: Path) -> Digests:
        """Fetch an object into a file, which is there whole or not at all; returns the digests of its bytes.

        Raises InputError: the bytes are not those that the object's own checksums promise.
        """
        partial_of(path).unlink(missing_ok=True)
        try:
            return self.resume(name, path)
        finally:
            partial_of(path).unlink(missing_ok=True)

    def resume(
        self, name: ObjectName, path: Path, md5: str = "", seen: Callable[[int], object] = lambda size: None
    ) -> Digests:
        """As `download`, but an interruption leaves a `.partial` file, and the next call goes on with it.

        `md5` is compared too, if given; `seen` is told the size of each piece that is there.
        """
        stored = self.stat(name)
        part = partial_of(path)
        with part.open("ab") as file:
            if file.tell() > stored.size:
                file.truncate(0)
            start = part.stat().st_size
            rest = self.read(name, start) if start < stored.size else iter(())
            found = digest(_tee(chain(read_chunks(part), _tee(rest, file.write)), lambda chunk: seen(len(chunk))))
            file.flush()
            os.fsync(file.fileno())
        try:
            _compare(name, stored, found, md5)
        except InputError:
            part.unlink()
            if not start:
                raise
            # What was there already may be another object's.
            return self.resume(name, path, md5, seen)
        part.rename(path)
        return found

    def upload(
        self, path: Path, name: ObjectName, metadata: Mapping[str, str], known: Digests | None = None
    ) -> StoredObject:
        """Store a file, in parts if it is large, then read it back to see that it arrived whole.

        `known` are its digests where they were computed before.
        Raises UnavailableError: what is stored is not what was to be.
        """
        sent = known or digest_file(path)
        labels = {**metadata, "md5sum": sent.md5, "sha256": sent.sha256}
        with storage_errors(str(name)):
            self._client.upload_file(str(path), name.bucket, name.key, ExtraArgs={"Metadata": labels}, Config=TRANSFER)
        if digest_sha256(self.read(name)) != sent.sha256:
            raise UnavailableError(f"{name} was stored with other bytes than it was to have")
        return self.stat(name)

    def delete(self, name: ObjectName) -> None:
        """Remove an object. One that is not there is no error."""
        with storage_errors(str(name)):
            self._client.delete_object(Bucket=name.bucket, Key=name.key)

    def delete_prefix(self, bucket: str, prefix: str) -> int:
        """Remove every object and every unfinished upload below `prefix`; returns how many there were."""
        removed = 0
        for upload in list(self.uploads(bucket, prefix)):
            self.abort(upload)
            removed += 1
        for item in self.objects(bucket, prefix):
            self.delete(item.name)
            removed += 1
        return removed

    def objects(self, bucket: str, prefix: str = "") -> Iterator[ListedObject]:
        """The objects whose keys begin with `prefix`."""
        with storage_errors(f"s3://{bucket}/{prefix}"):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for item in page.get("Contents", []):
                    yield ListedObject(ObjectName(bucket, item["Key"]), item["Size"], item["LastModified"])

    def uploads(self, bucket: str, prefix: str = "") -> Iterator[UnfinishedUpload]:
        """The uploads to keys that begin with `prefix` that were neither finished nor given up."""
        with storage_errors(f"s3://{bucket}/{prefix}"):
            for page in self._client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
                for item in page.get("Uploads", []):
                    yield UnfinishedUpload(ObjectName(bucket, item["Key"]), item["UploadId"], item["Initiated"])

    def parts_size(self, upload: UnfinishedUpload) -> int:
        """The bytes that have come of an upload."""
        where: Any = {"Bucket": upload.name.bucket, "Key": upload.name.key, "UploadId": upload.id}
        with storage_errors(str(upload.name)):
            pages = self._client.get_paginator("list_parts").paginate(**where)
            return sum(part["Size"] for page in pages for part in page.get("Parts", []))

    def abort(self, upload: UnfinishedUpload) -> None:
        """Give an upload up, with the parts that have come."""
        with storage_errors(str(upload.name)):
            self._client.abort_multipart_upload(Bucket=upload.name.bucket, Key=upload.name.key, UploadId=upload.id)


def partial_of(path: Path) -> Path:
    """Where the bytes of a file are until it is whole."""
    return path.with_name(path.name + ".partial")


def _tee(chunks: Iterator[bytes], write: Callable[[bytes], object]) -> Iterator[bytes]:
    for chunk in chunks:
        write(chunk)
        yield chunk


def _compare(name: ObjectName, stored: StoredObject, found: Digests, md5: str) -> None:
    """Compare with the checksums kept with the object, and `md5`; an etag is an MD5 only if it looks like one."""
    etag = stored.etag if _MD5_ETAG.fullmatch(stored.etag) else None
    metadata = stored.metadata
    promised = [("sha256", metadata.get("sha256")), ("md5", metadata.get("md5sum") or etag), ("md5", md5)]
    for kind, expected in promised:
        actual = getattr(found, kind)
        if expected and expected.lower() != actual:
            raise InputError(
                f"{name} is damaged: its {kind} is {actual}, its record in S3 says {expected}",
                "Upload it again",
            )
    if stored.size != found.size:
        raise UnavailableError(f"{name} ended after {found.size} of {stored.size} bytes")
