"""Reads the objects of an image and compares them with its manifest and with the checksums in S3.

S3 reports the checksums that it stored with an object, even if its content was damaged since: only reading it shows
that.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from ims.errors import PermanentError, UnavailableError
from ims.storage.digests import digest
from ims.storage.manifest import MAX_BYTES, Artifact, read_manifest
from ims.storage.objects import ObjectName, ObjectStore, checksums

TRIES = 3
PAUSE_SECONDS = 5.0


class Pace:
    """Slows down reading to a number of bytes per second."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._next = time.monotonic()

    def slow(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the chunks at that rate."""
        for chunk in chunks:
            yield chunk
            self._next = max(self._next, time.monotonic()) + len(chunk) / self._rate
            time.sleep(max(0, self._next - time.monotonic()))


def damaged_objects(store: ObjectStore, link: ObjectName, buckets: tuple[str, ...], pace: Pace) -> list[str]:
    """Read the manifest that `link` names and all its objects; return what is wrong, a sentence for each object.

    Raises UnavailableError if S3 does not answer.
    """
    try:
        manifest = read_manifest(store.read_bytes(link, MAX_BYTES), link, buckets)
    except PermanentError as error:
        return [error.reason]
    return [found for artifact in manifest.artifacts if (found := _damage(store, artifact, pace)) is not None]


def _damage(store: ObjectStore, artifact: Artifact, pace: Pace) -> str | None:
    """What is wrong with an object, or None."""
    name = ObjectName.parse(artifact.link.path)
    for attempt in range(1, TRIES + 1):
        try:
            stored = store.stat(name)
        except PermanentError as error:
            return error.reason
        if artifact.link.etag and stored.etag != artifact.link.etag.strip('"'):
            return f"{name} was replaced: its ETag is {stored.etag}, its manifest says {artifact.link.etag}"
        try:
            digest(pace.slow(store.read(name))).check(name, stored.size, checksums(stored, artifact.md5))
        except PermanentError as error:
            return error.reason
        except UnavailableError as error:
            # S3 knows the object, but does not give all of it: it cannot read it, or it is just going away.
            if attempt == TRIES:
                return error.reason
            time.sleep(PAUSE_SECONDS)
        else:
            break
    return None
