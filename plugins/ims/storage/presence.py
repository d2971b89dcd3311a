"""Whether the objects of an image are still in S3, and still those that its manifest names."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ims.errors import PermanentError
from ims.storage.manifest import Artifact, Manifest
from ims.storage.objects import ObjectName, ObjectStore

CONCURRENT = 4


def find_damage(store: ObjectStore, manifest: Manifest) -> str | None:
    """Why an image is not complete, or None if S3 has all its objects with their checksums.

    Asks S3 for the checksums that it stores. The content, which can be large, is not read. Raises UnavailableError if
    S3 does not answer.
    """
    with ThreadPoolExecutor(CONCURRENT) as pool:
        found: Sequence[str | None] = list(pool.map(partial(_damage, store), manifest.artifacts))
    return next(filter(None, found), None)


def _damage(store: ObjectStore, artifact: Artifact) -> str | None:
    name = ObjectName.parse(artifact.link.path)
    try:
        stored = store.stat(name)
    except PermanentError as error:
        return f"{name} cannot be read: {error.reason}"
    if artifact.link.etag and stored.etag != artifact.link.etag.strip('"'):
        return f"{name} was replaced: its ETag is {stored.etag}, not {artifact.link.etag}"
    if artifact.md5 and stored.metadata.get("md5sum", artifact.md5) != artifact.md5:
        return f"{name} was replaced: its MD5 is {stored.metadata['md5sum']}, not {artifact.md5}"
    return None
