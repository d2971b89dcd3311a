"""The artifacts of an image on their way from the workspace to S3."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from ims.storage.manifest import Artifact, Link


class PackedArtifact(BaseModel):
    """A file in the workspace that becomes an object in S3. `type` is the media type in the manifest."""

    name: str
    type: str
    path: Path
    size: int
    md5: str
    sha256: str


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
