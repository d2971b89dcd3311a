"""The artifacts of an image on their way from the workspace to S3."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from ims.storage.delta import Delta
from ims.storage.digests import Digests
from ims.storage.manifest import Artifact, Link
from ims.storage.objects import ObjectName
from ims.storage.splicing import Spliced, StoredSource

LITTLE = 32 * 1024**2
"""Bytes. To upload more, two tasks are faster than one, although each needs a second of its own."""


class Base(BaseModel):
    """An object in S3, and a file with the same content, whose first `kept` bytes become part of an artifact.

    The first `head` bytes are replaced. `etag` is that of the object, if it is known to have the content of the file.
    """

    url: str
    path: Path
    kept: int
    head: int
    etag: str | None = None

    def continued_by(self, path: Path) -> Spliced:
        """The content of an artifact whose file is `path`. Raises InputError if `url` is not an address in S3."""
        return Spliced(ObjectName.parse(self.url), self.kept, path, self.head, self.etag)


class Original(BaseModel):
    """An object in S3 that has the content of an artifact, if it has the ETag."""

    url: str
    etag: str


class PackedArtifact(BaseModel):
    """A file in the workspace that becomes an object in S3. `type` is the media type in the manifest.

    With `base`, the file has only the head of the artifact and what follows the base. Size and checksums are those of
    the whole artifact. An artifact with an `original` need not be sent. `delta` is for the manifest.
    """

    name: str
    type: str
    path: Path
    size: int
    md5: str
    sha256: str
    base: Base | None = None
    original: Original | None = None
    delta: Delta | None = None

    @property
    def stored_size(self) -> int:
        """The bytes of the file."""
        return self.size if self.base is None else self.size - self.base.kept + self.base.head

    @property
    def sent_size(self) -> int:
        """The bytes that are probably sent to S3."""
        return self.stored_size if self.original is None else 0

    @property
    def digests(self) -> Digests:
        """The size and the checksums of the whole artifact."""
        return Digests(self.size, self.md5, self.sha256)

    @property
    def spliced(self) -> Spliced | None:
        """What is uploaded if the artifact has a base."""
        return None if self.base is None else self.base.continued_by(self.path)

    @property
    def stored(self) -> StoredSource | None:
        """What S3 copies if the artifact has an original. Raises InputError if that has no address in S3."""
        if self.original is None:
            return None
        return StoredSource(ObjectName.parse(self.original.url), self.original.etag, self.digests)


class Batch(BaseModel):
    """The artifacts that one task uploads."""

    artifacts: list[PackedArtifact]


def batches(artifacts: list[PackedArtifact]) -> list[Batch]:
    """The artifacts that each task uploads: the rootfs and the rest, or all in one task if they are small."""
    if sum(artifact.sent_size for artifact in artifacts) < LITTLE:
        return [Batch(artifacts=artifacts)]
    return [Batch(artifacts=artifacts[:1]), Batch(artifacts=artifacts[1:])]


class UploadedArtifact(BaseModel):
    """An artifact in S3."""

    type: str
    path: str
    etag: str
    size: int
    md5: str
    sha256: str
    delta: Delta | None = None

    @property
    def in_manifest(self) -> Artifact:
        """The entry of this artifact in the manifest."""
        return Artifact(type=self.type, md5=self.md5, link=Link(path=self.path, etag=self.etag), delta=self.delta)


class Upload(BaseModel):
    """The artifacts that one task uploaded."""

    artifacts: list[UploadedArtifact]
