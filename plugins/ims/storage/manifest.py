"""The manifest of an image, version 1.0, which lists its artifacts. IMS defines the format, and BOS reads it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from ims.documents import DocumentError, load_yaml
from ims.errors import InputError
from ims.storage.delta import Delta
from ims.storage.objects import ObjectName

MANIFEST_NAME = "manifest.yaml"
MAX_ARTIFACTS = 100
MAX_BYTES = 1024 * 1024  # BOS rejects a larger manifest

ROOTFS = "application/vnd.cray.image.rootfs.squashfs"
KERNEL = "application/vnd.cray.image.kernel"
INITRD = "application/vnd.cray.image.initrd"
BOOT_PARAMETERS = "application/vnd.cray.image.parameters.boot"
# Our own types: what was changed in the image that was customized, as a list and as a script, its build inputs and the
# playbook that changed it, the build inputs of an image that was built, the SBOM, and the list of files.
# Readers skip types that they do not know.
CHANGES = "text/vnd.ims.image.changes"
CAPTURE = "application/vnd.ims.image.capture+gzip"
CUSTOMIZATION = "application/vnd.ims.image.customization+json"
PLAYBOOK = "application/vnd.ims.image.playbook+gzip"
PROVENANCE = "application/vnd.ims.image.provenance+json"
SBOM = "application/vnd.cyclonedx+json"
FILES = "application/vnd.ims.image.files"


# Users write manifests. Databases cannot store the null character; a key in S3 has at most 1024 bytes.
_Text = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=1100)]


def _scalar(value: object) -> object:
    """YAML parses an unquoted time or number; the field is text. The text of a nested list could fill the memory."""
    return str(value) if isinstance(value, date | int | float) else value


def _version(value: object) -> object:
    """Writers of JSON may write the number 1.0 as 1."""
    return "1.0" if isinstance(value, int | float) and not isinstance(value, bool) and value == 1 else value


def _empty(value: object) -> object:
    """Writers that know no checksum leave it empty, or write null."""
    return "" if value is None else value


_Checksum = Annotated[_Text, BeforeValidator(_empty)]


class ManifestVersionError(InputError):
    """A manifest has another version, or none."""


class Link(BaseModel):
    """The address of an object."""

    type: Literal["s3"] = "s3"
    path: _Text
    etag: _Checksum = ""


class Artifact(BaseModel):
    """A file of an image. `delta`, a field of this service, lists the bytes that other objects also have."""

    type: _Text
    md5: _Checksum = ""
    link: Link
    delta: Delta | None = None


class Manifest(BaseModel):
    """The manifest of an image."""

    version: Annotated[Literal["1.0"], BeforeValidator(_version)]
    created: Annotated[_Text, BeforeValidator(_scalar)] = Field(
        default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    )
    artifacts: Annotated[list[Artifact], Field(max_length=MAX_ARTIFACTS)]

    def of_type(self, kind: str) -> list[Artifact]:
        """The artifacts of a type."""
        return [artifact for artifact in self.artifacts if artifact.type == kind]


def read_manifest(data: bytes, name: object, buckets: Collection[str] = ()) -> Manifest:
    """Parses a manifest in JSON or YAML. `name` appears in errors.

    Raises InputError if it is neither, or not a manifest of version 1.0, or if `buckets` are given and an artifact is
    in another bucket; ManifestVersionError if it has another version.
    """
    try:
        manifest = Manifest.model_validate(_load(data, name))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        kind = ManifestVersionError if where == "version" else InputError
        raise kind(f"the manifest {name} is not of version 1.0: {where}: {first['msg']}") from None
    for artifact in manifest.artifacts if buckets else ():
        ObjectName.parse(artifact.link.path, buckets)
    return manifest


def _load(data: bytes, name: object) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        pass  # JSON is also YAML, but parsing YAML takes far longer
    try:
        return load_yaml(data)
    except DocumentError as error:
        raise InputError(f"the manifest {name} is neither JSON nor YAML: {error}") from None


def write_manifest(artifacts: Iterable[Artifact]) -> str:
    """The manifest of an image as JSON."""
    return Manifest(version="1.0", artifacts=list(artifacts)).model_dump_json(exclude_none=True)
