"""Reads the objects of an image and compares them with its manifest and with the checksums in S3.

S3 reports the checksums that it stored with an object, even if its content was damaged since: only reading it shows
that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TypeVar

from ims.errors import ConfigurationError, ImsError, InputError, MissingError, PermanentError, UnavailableError
from ims.storage.digests import digest
from ims.storage.errors import storage_errors
from ims.storage.manifest import MAX_BYTES, Artifact, Manifest, read_manifest
from ims.storage.objects import ObjectName, ObjectStore, StoredObject, checksums

TRIES = 3
PAUSE_SECONDS = 5.0
_MIB = 1024**2
_Result = TypeVar("_Result")


class OutOfTimeError(ImsError):
    """An image cannot be read in the time that it has."""


class _DamageError(PermanentError):
    """An object is missing, was replaced, is damaged, or S3 knows it and does not give it."""


class Pace:
    """Slows down reading to a number of bytes per second, and ends it after a number of seconds."""

    def __init__(self, rate: int, seconds: float) -> None:
        self._rate, self._seconds = rate, seconds
        self._next = time.monotonic()
        self._end = self._next + seconds

    def require(self, size: int) -> None:
        """Raises OutOfTimeError if reading so many bytes takes too long."""
        if size > self._rate * self._seconds:
            raise OutOfTimeError(
                f"reading its {size // _MIB} MiB at IMS_SCRUB_MIB={self._rate // _MIB} takes longer than "
                f"{self._seconds:.0f} s",
                f"Set IMS_SCRUB_MIB to more than {size / self._seconds / _MIB:.1f}",
            )

    def slow(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the chunks at that rate. Raises OutOfTimeError when the time is over."""
        for chunk in chunks:
            yield chunk
            self._next = max(self._next, time.monotonic()) + len(chunk) / self._rate
            if self._next > self._end:
                raise OutOfTimeError(f"reading it took longer than {self._seconds:.0f} s", "S3 is slow at this time")
            time.sleep(max(0, self._next - time.monotonic()))


def damaged_objects(store: ObjectStore, link: str, buckets: Collection[str], pace: Pace) -> list[str]:
    """Read the manifest at the address `link` and all its objects; return what is wrong, a sentence for each object.

    Raises UnavailableError if S3 does not answer, InputError or ConfigurationError if it refuses the requests or the
    buckets of the settings are not those of the image, OutOfTimeError if the image cannot be read in time. None of
    these says anything about the objects.
    """
    try:
        manifest = _manifest(store, link, buckets)
    except _DamageError as error:
        return [error.reason]
    # Before anything is read: the sizes tell how long that takes, and S3 may refuse access.
    objects = [(artifact, _stat(store, ObjectName.parse(artifact.link.path))) for artifact in manifest.artifacts]
    pace.require(sum(stored.size for _, stored in objects if isinstance(stored, StoredObject)))
    return [found for artifact, stored in objects if (found := _damage(store, artifact, stored, pace)) is not None]


def check_buckets(store: ObjectStore, buckets: Iterable[str]) -> None:
    """Raises ConfigurationError, InputError or UnavailableError if S3 does not give access to the buckets."""
    for bucket in buckets:
        try:
            with storage_errors(f"the bucket {bucket}"):
                store.client.head_bucket(Bucket=bucket)
        except MissingError as error:
            raise ConfigurationError(error.reason, "Correct IMS_RECIPES_BUCKET and IMS_IMAGES_BUCKET") from None


def _manifest(store: ObjectStore, link: str, buckets: Collection[str]) -> Manifest:
    """The manifest of an image. Raises _DamageError."""
    try:
        name = ObjectName.parse(link)
    except InputError as error:
        raise _DamageError(error.reason) from None
    if name.bucket not in buckets:  # it was when the image was registered
        raise ConfigurationError(
            f"{name} is not in the bucket {' or '.join(buckets)}", "Correct IMS_RECIPES_BUCKET and IMS_IMAGES_BUCKET"
        )
    stored = _stat(store, name)
    if isinstance(stored, str):
        raise _DamageError(stored)
    if stored.size > MAX_BYTES:
        raise _DamageError(f"{name} is larger than {MAX_BYTES} bytes")
    data = _read(store, name, lambda: store.read_bytes(name, MAX_BYTES))
    try:
        return read_manifest(data, name, buckets)
    except InputError as error:
        raise _DamageError(error.reason) from None


def _damage(store: ObjectStore, artifact: Artifact, stored: StoredObject | str, pace: Pace) -> str | None:
    """What is wrong with an object, or None."""
    if isinstance(stored, str):
        return stored
    name = ObjectName.parse(artifact.link.path)
    try:
        _check_etag(name, artifact, stored)
        _read(store, name, lambda: _check_content(store, name, stored, artifact.md5, pace))
    except _DamageError as error:
        return error.reason
    return None


def _check_etag(name: ObjectName, artifact: Artifact, stored: StoredObject) -> None:
    expected = artifact.link.etag.strip('"')
    if not expected or stored.etag == expected:
        return
    # The ETag of an object in parts depends on their sizes, which a copy may change: its MD5 decides, if it is known.
    if artifact.md5 and "-" in f"{stored.etag}{expected}":
        return
    raise _DamageError(f"{name} was replaced: its ETag is {stored.etag}, its manifest says {artifact.link.etag}")


def _check_content(store: ObjectStore, name: ObjectName, stored: StoredObject, md5: str, pace: Pace) -> None:
    found = digest(pace.slow(store.read(name)))
    try:
        found.check(name, stored.size, checksums(stored, md5))
    except InputError as error:
        raise _DamageError(error.reason) from None


def _stat(store: ObjectStore, name: ObjectName) -> StoredObject | str:
    """The properties of an object, or why S3 has no such object, although it gives access to its bucket."""
    try:
        return store.stat(name)
    except (MissingError, InputError) as error:
        check_buckets(store, [name.bucket])
        return error.reason


def _read(store: ObjectStore, name: ObjectName, read: Callable[[], _Result]) -> _Result:
    """The result of `read`, which reads an object. Raises _DamageError if S3 knows the object, but does not give it."""
    attempt = 1
    while True:
        try:
            return read()
        except (MissingError, UnavailableError) as error:
            # S3 cannot read it, or it is just going away, or S3 itself is.
            stored = _stat(store, name)
            if isinstance(stored, str) or attempt == TRIES:
                raise _DamageError(stored if isinstance(stored, str) else error.reason) from None
        attempt += 1
        time.sleep(PAUSE_SECONDS)
