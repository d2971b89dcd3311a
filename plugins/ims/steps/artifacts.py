"""The artifacts of an image on their way from the workspace to S3."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from ims.storage.manifest import Artifact, Link
from ims.storage.objects import ObjectName
from ims.storage.splicing import Spliced


class Base(BaseModel):
    """An object in S3, and a file with the same content, whose first `kept` bytes become part of an artifact.

    The first `head` bytes are replaced.
    """

    url: str
    path: Path
    kept: int
    head: int

    def continued_by(self, path: Path) -> Spliced:
        """The content of an artifact whose file is `path`. Raises InputError if `url` is not an address in S3."""
        return Spliced(ObjectName.parse(self.url), self.kept, path, self.head)


class PackedArtifact(BaseModel):
    """A file in the workspace that becomes an object in S3. `type` is the media type in the manifest.

    With `base`, the file has only the head of the artifact and what follows the base. Size and checksums are those of
    the whole artifact.
    """

    name: str
    type: str
    path: Path
    size: int
    md5: str
    sha256: str
    base: Base | None = None

    @property
    def stored_size(self) -> int:
        """The bytes of the file."""
        return self.size if self.base is None else self.size - self.base.kept + self.base.head

    @property
    def spliced(self) -> Spliced | None:
        """What is uploaded if the artifact has a base."""
        return None if self.base is None else self.base.continued_by(self.path)


class Batch(BaseModel):
    """The artifacts that one task uploads."""

    artifacts: list[PackedArtifact]


class UploadedArtifact(BaseModel):
    """An artifact in S3."""

    type: str
    path: str
    etag: str
    size: int
    md5: str
    sha256: str

    @property
    def in_manifest(self) -> Artifact:
        """The entry of this artifact in the manifest."""
        return Artifact(type=self.type, md5=self.md5, link=Link(path=self.path, etag=self.etag))


class Upload(BaseModel):
    """The artifacts that one task uploaded."""

    artifacts: list[UploadedArtifact]
