"""The upload of artifacts to S3."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from ims.errors import UnavailableError
from ims.settings import settings
from ims.steps import upload_artifacts
from ims.steps.artifacts import Base, Batch, PackedArtifact
from ims.steps.upload_artifacts import Input, run
from ims.storage import manifest
from ims.storage.digests import Digests
from ims.storage.objects import ObjectName, ObjectStore, StoredObject
from ims.storage.splicing import Spliced


class Store:
    """Keeps what is uploaded."""

    def __init__(self) -> None:
        self.uploads: list[tuple[Path, str, Mapping[str, str], Digests | None]] = []

    def upload(
        self, path: Path, name: ObjectName, metadata: Mapping[str, str], known: Digests | None = None
    ) -> StoredObject:
        """Keep an upload."""
        self.uploads.append((path, str(name), metadata, known))
        return StoredObject(size=5, etag="etag-2", metadata=metadata)


def test_batch_is_uploaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each artifact gets labels, in printable ASCII, and its known digests are not computed again."""
    store = Store()
    monkeypatch.setattr(ObjectStore, "from_environment", lambda: store)
    kernel = PackedArtifact(
        name="kernel", type=manifest.KERNEL, path=tmp_path / "kernel", size=5, md5="0" * 32, sha256="1" * 64
    )
    kernel.path.touch()
    batch = Batch(artifacts=[kernel])
    step = Input(workspace=tmp_path, image_id="i1", image_name="größe\n\x7f", job_id="j1", each=batch)
    (found,) = run(step).artifacts
    path = f"s3://{settings().images_bucket}/i1/kernel"
    labels = {
        "x-shasta-ims-image-name": "gr??e??",
        "x-shasta-ims-image-id": "i1",
        "x-shasta-ims-job-id": "j1",
    }
    assert store.uploads == [(tmp_path / "kernel", path, labels, Digests(5, "0" * 32, "1" * 64))]
    assert (found.path, found.etag, found.size) == (path, "etag-2", 5)
    entry = found.in_manifest
    assert (entry.type, entry.md5, entry.link.path, entry.link.etag) == (manifest.KERNEL, "0" * 32, path, "etag-2")


@pytest.fixture
def continued(tmp_path: Path) -> Input:
    """A step that uploads a rootfs of which the first bytes are those of an old one."""
    (tmp_path / "old").write_bytes(b"OLDHdata of the old one and its tables")
    (tmp_path / "rootfs").write_bytes(b"NEWHnew tables")
    base = Base(url=f"s3://{settings().images_bucket}/old/rootfs", path=tmp_path / "old", kept=23, head=4)
    rootfs = PackedArtifact(
        **{"name": "rootfs", "type": manifest.ROOTFS, "path": tmp_path / "rootfs", "base": base},
        **{"size": 33, "md5": "0" * 32, "sha256": "1" * 64},
    )
    batch = Batch(artifacts=[rootfs])
    return Input(workspace=tmp_path, image_id="i1", image_name="new", job_id="j1", each=batch)


def test_rootfs_is_continued(continued: Input, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 copies what is equal. The step may read the old rootfs, and no other object."""
    store, calls = Store(), list[tuple[object, ...]]()

    def upload_spliced(_store: object, spliced: Spliced, *more: object) -> StoredObject:
        calls.append((spliced, *more))
        return StoredObject(size=33, etag="etag-3", metadata={})

    monkeypatch.setattr(ObjectStore, "from_environment", lambda: store)
    monkeypatch.setattr(upload_artifacts, "upload_spliced", upload_spliced)
    (found,) = run(continued).artifacts
    assert (found.size, found.etag) == (33, "etag-3")
    bucket, (artifact,) = settings().images_bucket, continued.each.artifacts
    expected = Spliced(ObjectName(bucket, "old/rootfs"), 23, artifact.path, 4)
    ((spliced, name, _labels, digests),) = calls
    assert (spliced, str(name), digests) == (expected, f"s3://{bucket}/i1/rootfs", Digests(33, "0" * 32, "1" * 64))
    assert store.uploads == []
    granted = upload_artifacts.grants(continued, ObjectStore.__new__(ObjectStore))
    assert [grant.resources for grant in granted] == [(f"{bucket}/i1/*",), (f"{bucket}/old/rootfs",)]
    assert granted[1].only_reads


def test_store_that_cannot_copy(
    continued: Input, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The whole rootfs is sent, and the log says why."""
    store, sent = Store(), list[bytes]()

    def refuse(*_arguments: object) -> StoredObject:
        raise UnavailableError("S3 answers NotImplemented")

    def upload(path: Path, *_more: object) -> StoredObject:
        sent.append(path.read_bytes())
        return StoredObject(size=33, etag="etag-4", metadata={})

    monkeypatch.setattr(ObjectStore, "from_environment", lambda: store)
    monkeypatch.setattr(store, "upload", upload)
    monkeypatch.setattr(upload_artifacts, "upload_spliced", refuse)
    (found,) = run(continued).artifacts
    assert found.etag == "etag-4"
    assert sent == [b"NEWHdata of the old onenew tables"]
    assert "S3 cannot copy" in caplog.text
    assert "NotImplemented" in caplog.text
