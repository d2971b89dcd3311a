"""The one seam to object storage: any S3, through boto3."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from ims.errors import InputError, UnavailableError
from ims.storage.digests import CHUNK, Digests, digest, digest_file
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


class ObjectStore:
    """Objects in S3. Every method raises MissingError, ConfigurationError or UnavailableError as it applies."""

    def __init__(self, client: S3Client) -> None:
        self._client = client

    @classmethod
    def connect(cls, endpoint_url: str, access_key: str, secret_key: str, *, attempts: int = 12) -> ObjectStore:
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
        session = boto3.session.Session(access_key, secret_key, region_name="us-east-1")
        return cls(session.client("s3", endpoint_url=endpoint_url, config=config))

    @classmethod
    def from_environment(cls, *, attempts: int = 12) -> ObjectStore:
        """The store that AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY name."""
        return cls.connect(
            os.environ["AWS_ENDPOINT_URL"],
            os.environ["AWS_ACCESS_KEY_ID"],
            os.environ["AWS_SECRET_ACCESS_KEY"],
            attempts=attempts,
        )

    def stat(self, name: ObjectName) -> StoredObject:
        """Size, etag and metadata of an object."""
        with storage_errors(str(name)):
            head = self._client.head_object(Bucket=name.bucket, Key=name.key)
        return StoredObject(head["ContentLength"], head["ETag"].strip('"'), head["Metadata"])

    def read(self, name: ObjectName) -> Iterator[bytes]:
        """The bytes of an object, in pieces."""
        with storage_errors(str(name)):
            body = self._client.get_object(Bucket=name.bucket, Key=name.key)["Body"]
            yield from body.iter_chunks(CHUNK)

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
        stored = self.stat(name)
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("wb") as file:
                found = digest(_tee(self.read(name), file.write))
                file.flush()
                os.fsync(file.fileno())
            _compare(name, stored, found)
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)
        return found

    def upload(self, path: Path, name: ObjectName, metadata: Mapping[str, str]) -> StoredObject:
        """Store a file, in parts if it is large, then read it back to see that it arrived whole.

        Raises UnavailableError: what is stored is not what was sent.
        """
        sent = digest_file(path)
        labels = {**metadata, "md5sum": sent.md5, "sha256": sent.sha256}
        with storage_errors(str(name)):
            self._client.upload_file(str(path), name.bucket, name.key, ExtraArgs={"Metadata": labels}, Config=TRANSFER)
        if digest(self.read(name)) != sent:
            raise UnavailableError(f"{name} was stored with other bytes than were sent")
        return self.stat(name)

    def delete(self, name: ObjectName) -> None:
        """Remove an object. One that is not there is no error."""
        with storage_errors(str(name)):
            self._client.delete_object(Bucket=name.bucket, Key=name.key)

    def delete_prefix(self, bucket: str, prefix: str) -> int:
        """Remove every object and every unfinished upload below `prefix`; returns how many there were."""
        removed = 0
        with storage_errors(f"s3://{bucket}/{prefix}"):
            for upload in self._unfinished(bucket, prefix):
                self._client.abort_multipart_upload(Bucket=bucket, Key=upload[0], UploadId=upload[1])
                removed += 1
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for item in page.get("Contents", []):
                    self._client.delete_object(Bucket=bucket, Key=item["Key"])
                    removed += 1
        return removed

    def _unfinished(self, bucket: str, prefix: str) -> list[tuple[str, str]]:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
        return [(upload["Key"], upload["UploadId"]) for page in pages for upload in page.get("Uploads", [])]


def _tee(chunks: Iterator[bytes], write: Callable[[bytes], object]) -> Iterator[bytes]:
    for chunk in chunks:
        write(chunk)
        yield chunk


def _compare(name: ObjectName, stored: StoredObject, found: Digests) -> None:
    """Compare with the checksums kept with the object; an etag is an MD5 only if it looks like one."""
    etag = stored.etag if _MD5_ETAG.fullmatch(stored.etag) else None
    promised = {"sha256": stored.metadata.get("sha256"), "md5": stored.metadata.get("md5sum") or etag}
    for kind, expected in promised.items():
        actual = getattr(found, kind)
        if expected and expected.lower() != actual:
            raise InputError(
                f"{name} is damaged: its {kind} is {actual}, its record in S3 says {expected}",
                "Upload it again",
            )
    if stored.size != found.size:
        raise UnavailableError(f"{name} ended after {found.size} of {stored.size} bytes")
