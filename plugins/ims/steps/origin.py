"""What a job knows of the image that it customizes, so that nothing is computed or sent that S3 already has."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel

from ims.errors import ImsError
from ims.settings import settings
from ims.steps.artifacts import Original, PackedArtifact
from ims.storage.delta import Delta
from ims.storage.manifest import FILES, ROOTFS, Artifact, Manifest
from ims.storage.objects import ObjectName, ObjectStore
from ims.workspace import Workspace

log = logging.getLogger(__name__)

MAX_LIST = 512 * 1024**2
"""Bytes of a compressed list of files."""


class Origin(BaseModel):
    """The address and the MD5 of the rootfs of an image, and its artifacts if a job of this service made it.

    The records of other images, and their lists of files, say what their owners wrote. The MD5 was compared with the
    rootfs; it is empty if the manifest has none.
    """

    rootfs: str = ""
    md5: str = ""
    artifacts: list[Artifact] = []

    @property
    def etag(self) -> str | None:
        """The ETag that the rootfs has if S3 has the content that was fetched; None if that is unknown."""
        return (self._rootfs.link.etag or None) if self._rootfs is not None else None

    @property
    def delta(self) -> Delta | None:
        """Which objects have bytes of the rootfs."""
        return self._rootfs.delta if self._rootfs is not None else None

    @property
    def files(self) -> Artifact | None:
        """The list of its files."""
        return self._of_type(FILES)

    @property
    def _rootfs(self) -> Artifact | None:
        return self._of_type(ROOTFS)

    def _of_type(self, kind: str) -> Artifact | None:
        return next((item for item in self.artifacts if item.type == kind), None)


def origin_of(rootfs: Artifact, data: bytes, manifest: Manifest, etag: str | None) -> Origin:
    """The origin that a manifest describes. `etag` is the one that its writer noted, if that was this service.

    S3 makes the ETag of a small object from its content. If it does not match, somebody else may have replaced it.
    """
    is_ours = etag is not None and hashlib.md5(data, usedforsecurity=False).hexdigest() == etag
    return Origin(rootfs=rootfs.link.path, md5=rootfs.md5.lower(), artifacts=manifest.artifacts if is_ours else [])


def note(store: ObjectStore, origin: Origin, workspace: Workspace) -> None:
    """Note the origin for later steps, with the list of its files if they can use it."""
    workspace.origin.write_text(origin.model_dump_json())
    workspace.old_files.unlink(missing_ok=True)
    if settings().squashfs_splice and origin.files is not None and origin.files.md5:
        try:
            _fetch(store, origin.files, workspace.old_files)
        except ImsError as error:
            log.warning("the list of files of the old image cannot be used, so a new one will be computed: %s", error)


def _fetch(store: ObjectStore, files: Artifact, target: Path) -> None:
    digests = store.download(ObjectName.parse(files.link.path), target, limit=MAX_LIST)
    if digests.md5 != files.md5:
        target.unlink()
        raise ImsError(f"{files.link.path} was replaced: its MD5 is {digests.md5}, its manifest says {files.md5}")


def read(workspace: Workspace) -> Origin:
    """The origin that was noted."""
    return Origin.model_validate_json(workspace.origin.read_bytes()) if workspace.origin.exists() else Origin()


def reuse(artifacts: Iterable[PackedArtifact], origin: Origin) -> None:
    """Have S3 copy the artifacts that are also artifacts of the origin."""
    known = {item.md5: item.link for item in origin.artifacts if item.md5 and item.link.etag}
    for artifact in artifacts:
        if artifact.base is None and (link := known.get(artifact.md5)) is not None:
            artifact.original = Original(url=link.path, etag=link.etag)
