"""What a job knows of the image that it customizes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

import pytest

from ims.errors import MissingError
from ims.steps.artifacts import Base, PackedArtifact
from ims.steps.origin import Origin, note, origin_of, read, reuse
from ims.storage.digests import Digests
from ims.storage.manifest import FILES, INITRD, KERNEL, ROOTFS, Artifact, Link, read_manifest, write_manifest
from ims.storage.objects import ObjectStore
from ims.workspace import Workspace


def artifact(kind: str, md5: str, name: str) -> Artifact:
    """An artifact of the old image."""
    return Artifact(type=kind, md5=md5, link=Link(path=f"s3://boot-images/old/{name}", etag=f"etag-{name}"))


ARTIFACTS = [artifact(ROOTFS, "1" * 32, "rootfs"), artifact(KERNEL, "2" * 32, "kernel"), artifact(FILES, "3" * 32, "f")]
MANIFEST = write_manifest(ARTIFACTS).encode()
ETAG = hashlib.md5(MANIFEST, usedforsecurity=False).hexdigest()


def origin(data: bytes = MANIFEST, etag: str | None = ETAG) -> Origin:
    """The origin that a manifest describes."""
    return origin_of(ARTIFACTS[0], data, read_manifest(data, "manifest"), etag)


def test_image_of_a_job() -> None:
    """All that its manifest says is known."""
    assert (origin().etag, origin().files) == ("etag-rootfs", ARTIFACTS[2])


@pytest.mark.parametrize("etag", [None, "0" * 32, f"{ETAG}-1", ""], ids=["none", "other", "in parts", "empty"])
def test_other_images(etag: str | None) -> None:
    """What their owners wrote is not believed; neither is a manifest that was replaced after a job wrote it."""
    assert origin(etag=etag) == Origin(rootfs="s3://boot-images/old/rootfs", md5="1" * 32)
    assert (origin(etag=etag).etag, origin(etag=etag).files, origin(etag=etag).delta) == (None, None, None)


def packed(kind: str, md5: str) -> PackedArtifact:
    """An artifact of the new image."""
    return PackedArtifact(name="x", type=kind, path=Path("x"), size=1, md5=md5, sha256="4" * 64)


def test_reuse() -> None:
    """S3 copies what did not change, and the rest of what has a base is no copy."""
    found = [packed(KERNEL, "2" * 32), packed(INITRD, "5" * 32), packed(ROOTFS, "1" * 32)]
    found[2].base = Base(url="s3://boot-images/old/rootfs", path=Path("x"), kept=1, head=0)
    reuse(found, origin())
    assert [item.original and item.original.url for item in found] == ["s3://boot-images/old/kernel", None, None]
    assert [item.sent_size for item in found] == [0, 1, 0]
    reuse(found[1:], Origin())
    assert found[1].original is None


class Store:
    """Has a list of files, or none."""

    def __init__(self, md5: str | None) -> None:
        self._md5 = md5

    def download(self, name: object, path: Path, limit: int) -> Digests:
        """Write the list."""
        assert limit
        if self._md5 is None:
            raise MissingError(f"{name} does not exist in S3")
        path.write_text("list")
        return Digests(4, self._md5, "")


@pytest.mark.parametrize(("md5", "is_kept"), [("3" * 32, True), ("4" * 32, False), (None, False)])
def test_list_of_files(tmp_path: Path, configure: Any, md5: str | None, *, is_kept: bool) -> None:
    """It is kept if it is the one that the job wrote. A list of an earlier try is not."""
    configure(squashfs_splice=True)
    workspace = Workspace(tmp_path)
    workspace.notes.mkdir()
    workspace.old_files.write_text("of an earlier try")
    note(cast(ObjectStore, Store(md5)), origin(), workspace)
    assert workspace.old_files.exists() == is_kept
    assert read(workspace) == origin()
