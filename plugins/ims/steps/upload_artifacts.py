"""Seed step 11: upload one artifact to S3 and see that it arrived whole."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ims.errors import ImsError
from ims.settings import settings
from ims.steps.step import Step, StepInput
from ims.storage.objects import ObjectName, ObjectStore

log = logging.getLogger(__name__)


class PackedArtifact(BaseModel):
    """What `package_artifacts` says of an artifact."""

    name: str
    type: str
    path: Path
    size: int
    md5: str
    sha256: str


class Input(StepInput):
    """One artifact, and the image and job it belongs to."""

    image_id: str
    image_name: str
    job_id: str
    each: PackedArtifact


def run(step: Input) -> dict[str, Any]:
    """Returns type, S3 path, etag, size and digests of the stored artifact."""
    artifact = step.each
    name = ObjectName(settings().images_bucket, f"{step.image_id}/{artifact.name}")
    labels = {
        # S3 carries metadata in headers: the name of an image may have letters that those cannot hold.
        "x-shasta-ims-image-name": step.image_name.encode("ascii", "replace").decode(),
        "x-shasta-ims-image-id": step.image_id,
        "x-shasta-ims-job-id": step.job_id,
    }
    stored = ObjectStore.from_environment().upload(artifact.path, name, labels)
    if stored.metadata.get("sha256") != artifact.sha256:
        raise ImsError(f"{artifact.path} changed after it was packed", "Start the job again")
    log.info("uploaded %s: %d bytes, verified", name, stored.size)
    return {
        "type": artifact.type,
        "path": str(name),
        "etag": stored.etag,
        "size": artifact.size,
        "md5": artifact.md5,
        "sha256": artifact.sha256,
    }


STEP = Step("upload_artifacts", Input, run, s3=True)
