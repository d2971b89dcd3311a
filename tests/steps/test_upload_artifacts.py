"""The upload of artifacts to S3."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from ims.settings import settings
from ims.steps.artifacts import Batch, PackedArtifact
from ims.steps.upload_artifacts import Input, run
from ims.storage import manifest
from ims.storage.digests import Digests
from ims.storage.objects import ObjectName, ObjectStore, StoredObject


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
