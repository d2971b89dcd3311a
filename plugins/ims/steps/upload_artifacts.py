"""Uploads artifacts to S3 and verifies that they arrived complete."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from ims.errors import ImsError, PermanentError
from ims.files import is_plain
from ims.settings import settings
from ims.steps.artifacts import Batch, PackedArtifact, Upload, UploadedArtifact
from ims.steps.step import Step, StepInput
from ims.storage.objects import ObjectName, ObjectStore, StoredObject
from ims.storage.sessions import Grant, reading, writing
from ims.storage.splicing import MIN_PART, copy, spliced_chunks, upload_spliced
from ims.workspace import Workspace

log = logging.getLogger(__name__)

_THREADS = 4
"""S3 needs more time to answer than to store small artifacts."""


class Input(StepInput):
    """`each` is a batch of artifacts of the image."""

    image_id: str
    image_name: str
    job_id: str
    each: Batch


def run(step: Input) -> Upload:
    """Returns the artifacts as S3 stored them. Raises PermanentError if an artifact is a link to another file."""
    for artifact in step.each.artifacts:
        if not is_plain(artifact.path):
            raise PermanentError(f"{artifact.path} is not a plain file", "A program of the job replaced it")
    store = ObjectStore.from_environment()
    labels = {
        # S3 transfers metadata in headers, which cannot contain all characters of an image's name.
        "x-shasta-ims-image-name": "".join(char if " " <= char <= "~" else "?" for char in step.image_name),
        "x-shasta-ims-image-id": step.image_id,
        "x-shasta-ims-job-id": step.job_id,
    }
    with ThreadPoolExecutor(_THREADS) as pool:
        return Upload(artifacts=list(pool.map(lambda item: _upload(store, item, step, labels), step.each.artifacts)))


def _upload(store: ObjectStore, artifact: PackedArtifact, step: Input, labels: dict[str, str]) -> UploadedArtifact:
    name = ObjectName(settings().images_bucket, f"{step.image_id}/{artifact.name}")
    stored, copied = _store(store, artifact, name, labels, step.workspace)
    log.info("uploaded %s: %d bytes, %d of them copied by S3", name, stored.size, copied)
    return UploadedArtifact(
        type=artifact.type,
        path=str(name),
        etag=stored.etag,
        size=artifact.size,
        md5=artifact.md5,
        sha256=artifact.sha256,
        delta=artifact.delta,
    )


def _store(
    store: ObjectStore, artifact: PackedArtifact, name: ObjectName, labels: dict[str, str], workspace: Workspace
) -> tuple[StoredObject, int]:
    """Uploads an artifact. Returns it with the bytes that S3 copied, because it already has them."""
    try:
        if artifact.stored is not None:
            return copy(store, artifact.stored, name, labels), artifact.size
        if artifact.spliced is not None:
            stored = upload_spliced(store, artifact.spliced, name, labels, artifact.digests)
            return stored, artifact.spliced.kept - MIN_PART
    except ImsError as error:
        log.warning("S3 cannot copy what it has of %s, so all of it is sent: %s", name, error)
    if artifact.spliced is None or artifact.base is None:
        return store.upload(artifact.path, name, labels, artifact.digests), 0
    # In a pod, only the workspace itself can be written.
    with TemporaryDirectory(dir=workspace.root) as folder:
        whole = Path(folder) / artifact.name
        with whole.open("wb") as file:
            file.writelines(spliced_chunks(artifact.base.path, artifact.spliced))
        return store.upload(whole, name, labels, artifact.digests), 0


def grants(step: Input, _store: ObjectStore) -> list[Grant]:
    """The step writes the objects of the new image, and reads them back to verify them. It copies from their bases."""
    bases = [artifact.spliced.base for artifact in step.each.artifacts if artifact.spliced is not None]
    bases += [artifact.stored.name for artifact in step.each.artifacts if artifact.stored is not None]
    return [writing(settings().images_bucket, step.image_id), *([reading(bases)] if bases else [])]


STEP = Step("upload_artifacts", Input, run, s3=grants, parallel=True)
